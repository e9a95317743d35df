"""
A box's claim queue: where claims go that would outlast the twelve hours for which SQS hides a received message.

The message is sent there, received there, with twelve hours of its own, and only then deleted where it was. After a
restart it is found there by its claim, once its last renewal lapsed: nobody else takes it within a lease of that.
"""

from __future__ import annotations

import msgspec

from adapters.queues.sqs_access import Access
from adapters.queues.sqs_errors import QueueMissing
from adapters.queues.sqs_message import Received, packed
from adapters.queues.sqs_places import claim_name
from adapters.queues.sqs_token import Claim, lost
from runner.errors import Unavailable

_LOOKS = 5


class Home:
    """The claim queue of one box beside one queue; made when it is first needed."""

    def __init__(self, access: Access) -> None:
        self._access, self._place, self._clock = access, access.place, access.clock
        self._lease_s = access.lease_s
        self.name = claim_name(access.place.name, access.box_id)
        # Received while another claim was looked for, by claim, and when that was asked.
        self._strays: dict[str, tuple[Received, float]] = {}
        self._opened_s = access.clock()

    async def take_in(self, claim: Claim, body: bytes) -> None:
        """
        Move a claim's message here; what is to be deleted then stands in ``leftover``.

        Raises:
            Unavailable: it was sent and has not come yet; the next call goes on from there.
        """
        url = await self._access.places.made_url(self.name)
        if not claim.sent:
            claim.sent = await self._send(claim, url, body)
        old = (claim.url, claim.handle)
        if not await self._find(claim, url, claim.sent):
            raise Unavailable(f"queue {self.name}: what was sent there has not come yet; it is looked for again")
        claim.sent, claim.leftover = "", old

    async def find(self, claim: Claim) -> None:
        """
        Go on with a claim of an earlier life that was moved here.

        Raises:
            Unavailable: it may still be hidden by its last renewal.
            LeaseLost: it is not here.
        """
        try:
            url = await self._access.places.url(self.name)
        except QueueMissing:
            raise lost(claim) from None
        if await self._find(claim, url, ""):
            return
        if self._clock() - self._opened_s < 2 * self._lease_s:
            raise Unavailable(f"queue {self.name}: a claim may still be hidden there; it is looked for again")
        raise lost(claim)

    async def _send(self, claim: Claim, url: str, body: bytes) -> str:
        told = msgspec.structs.replace(
            claim.envelope, claim=claim.name.claim, queue=self._place.name, lease_s=self._lease_s
        )
        sent = packed(body, told, claim.foreign, self._place.limit_bytes)
        return await self._access.send(self.name, url, sent)

    async def _find(self, claim: Claim, url: str, message_id: str) -> bool:
        for _ in range(_LOOKS if message_id else 1):
            asked_s = self._clock()
            for message in await self._access.receive(self.name, url):
                self._strays[message.envelope.claim] = (message, asked_s)
            found = self._strays.pop(claim.name.claim, None)
            if found is not None and message_id in {"", found[0].message_id}:
                claim.arrive(found[0], url, asked_s=found[1], lease_s=self._lease_s)
                return self._clock() < claim.until_s
        return False
