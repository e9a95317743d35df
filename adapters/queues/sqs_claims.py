"""
The claims of one box on one queue: which receipt handle stands for each token now, and how long it surely counts.

SQS takes a stale handle for a good one at times, so a claim counts here only until its own deadline by this box's
clock, which counts sleep, too. A token of an earlier life has no deadline: the service is asked once, and believed.
A claim that nears the service's twelve hours goes home (``sqs_home``); its token stays the same.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from adapters.queues.sqs_access import HIDDEN_MAX_S, Access
from adapters.queues.sqs_errors import QueueMissing
from adapters.queues.sqs_home import Home
from adapters.queues.sqs_message import Received
from adapters.queues.sqs_token import Claim, lost, new_claim, old_claim
from runner.errors import LeaseLost
from runner.job import Note

_REMEMBERED = 4096


class Claims:
    """Makes, renews and forgets claims."""

    def __init__(self, access: Access, home: Home) -> None:
        self._access, self._home = access, home
        self._place, self._now, self._clock = access.place, access.now, access.clock
        self._lease_s = access.lease_s
        # A claim as old as this goes home: an hour before the end, or two leases.
        cap_s = access.limits.cap_s
        self._move_s = cap_s - max(cap_s / 12, 2 * access.lease_s)
        self._held: dict[str, Claim] = {}
        # Tokens of this life that count no more: the service may still take their handles for good ones.
        self._gone: OrderedDict[str, None] = OrderedDict()
        # Bodies and notes of an earlier life's claims, as its journal told them, by token.
        self._recalled: dict[str, tuple[bytes, Note]] = {}

    def make(self, message: Received, asked_s: float) -> Claim:
        """Claim a message that was asked for at this second."""
        claim = new_claim(
            self._place.name, message, self._place.url, now=self._now(), asked_s=asked_s, lease_s=self._lease_s
        )
        self._held[claim.token] = claim
        return claim

    def recall(self, token: str, body: bytes, note: Note) -> None:
        """Be told what an earlier life's journal has of a claim."""
        self._recalled[token] = (body, note)

    async def take_back(self, message: Received, asked_s: float) -> bool:
        """
        Go on with a claim whose message came again; False where it is to be delivered.

        It came twice, or its owner slept past the lease and may be about to renew it; a lease later that is over.
        """
        self._sweep()
        claim = next(
            (it for it in self._held.values() if message.message_id in {it.message_id, it.name.message_id}), None
        )
        if claim is None:
            return False
        if message.message_id != claim.message_id:
            await self._access.delete(self._place.url, message.handle)
            return True
        if self._clock() >= claim.until_s and self._clock() - claim.asked_s > 2 * self._lease_s:
            self.forget(claim)
            return False
        claim.handle, claim.received_s, claim.until_s = message.handle, asked_s, asked_s + self._lease_s
        return True

    def hold(self, claim: Claim) -> None:
        """Count a claim again that was given back and received anew."""
        self._held[claim.token] = claim
        self._gone.pop(claim.token, None)

    def forget(self, claim: Claim) -> None:
        """Drop a claim that is settled, lost or given back."""
        self._held.pop(claim.token, None)
        self._recalled.pop(claim.token, None)
        self._gone[claim.token] = None
        if len(self._gone) > _REMEMBERED:
            self._gone.popitem(last=False)

    async def standing(self, token: str) -> Claim:
        """
        Return a claim that counts now.

        Raises:
            LeaseLost: it does not, or the token never was one of this queue's.
        """
        claim = self._held.get(token) or await self._recovered(token)
        self.check(claim)
        return claim

    def check(self, claim: Claim) -> None:
        """Raise LeaseLost, and forget it, where a claim counts no longer."""
        if self._held.get(claim.token) is not claim or self._clock() >= claim.until_s:
            self.forget(claim)
            raise lost(claim)

    async def renew(self, token: str) -> None:
        """Hide the claim's message for another lease from now, at home where its hours end here."""
        claim = await self.standing(token)
        async with claim.lock:
            self.check(claim)
            if claim.body is not None and (claim.sent or self._clock() - claim.received_s > self._move_s):
                await self._home.take_in(claim, claim.body)
            else:
                await self.extend(claim)
            await self._delete_leftover(claim)
            self.check(claim)
            claim.asked_s = self._clock()

    async def extend(self, claim: Claim) -> None:
        """Hide a claim's message for another lease."""
        asked_s = self._clock()
        await self._hide(claim, self._access.hidden_s)
        claim.until_s = asked_s + self._lease_s

    async def keep_fresh(self, claim: Claim) -> None:
        """Extend a claim that has less than a third of its lease left."""
        if claim.until_s - self._clock() < self._lease_s / 3:
            await self.extend(claim)

    async def show(self, claim: Claim, after_s: float = 0.0) -> None:
        """Give a message back as it is, to be received after so many seconds."""
        await self._hide(claim, min(after_s, HIDDEN_MAX_S - 60))
        self.forget(claim)

    async def _delete_leftover(self, claim: Claim) -> None:
        if claim.leftover is not None:
            await self._access.delete(*claim.leftover)
            claim.leftover = None

    async def _hide(self, claim: Claim, seconds: float) -> None:
        try:
            await self._access.hide(claim.url, claim.handle, seconds)
        except (LeaseLost, QueueMissing):
            self.forget(claim)
            raise lost(claim) from None

    async def _recovered(self, token: str) -> Claim:
        """Ask the service of a claim of an earlier life, and this box's claim queue for one that was moved there."""
        asked_s, now = self._clock(), self._now()
        claim = old_claim(token, self._place.name, self._place.url, now=now, asked_s=asked_s, lease_s=self._lease_s)
        if token in self._gone:
            raise lost(claim)
        recalled = self._recalled.get(token)
        if recalled is not None:
            claim.body = recalled[0]
            claim.envelope = msgspec.structs.replace(claim.envelope, note=recalled[1])
        try:
            await self._access.hide(claim.url, claim.handle, self._access.hidden_s)
        except (LeaseLost, QueueMissing):
            if asked_s - claim.received_s < self._move_s:
                raise lost(claim) from None
            await self._home.find(claim)
        return self._held.setdefault(token, claim)

    def _sweep(self) -> None:
        """Forget claims that nobody renewed for long, and nobody will."""
        old = self._clock() - 10 * self._lease_s
        for claim in [claim for claim in self._held.values() if claim.until_s < old]:
            self.forget(claim)
