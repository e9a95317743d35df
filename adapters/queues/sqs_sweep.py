"""
Claims of boxes that died: what stood visible in any box's claim queue for longer than a lease goes back to its queue.

A claim that lives is hidden nearly always, since its owner renews it every third of the lease; so one look is not
enough: a message has to be seen in every look over a lease.
"""

from __future__ import annotations

import logging

import msgspec

from adapters.queues.sqs_access import Access
from adapters.queues.sqs_errors import QueueMissing
from adapters.queues.sqs_message import Received
from adapters.queues.sqs_sender import Sender
from runner.errors import LeaseLost, RunnerError

log = logging.getLogger(__name__)

_HIDDEN_S = 5
_MOST = 5


class Sweep:
    """Looks at the claim queues beside one queue, every ``look_s`` seconds."""

    def __init__(self, access: Access, sender: Sender) -> None:
        self._access, self._places, self._place, self._sender = access, access.places, access.place, sender
        self._clock, self._look_s = access.clock, access.limits.look_s
        self._next_s = access.clock()
        # When each message was seen first, of those that every look since has seen.
        self._seen: dict[str, float] = {}

    async def look(self) -> None:
        """Look, unless the last time is not long ago. What stands in the way of it is not in the way of fetching."""
        if self._clock() < self._next_s:
            return
        self._next_s = self._clock() + self._look_s
        try:
            seen: dict[str, float] = {}
            for name in await self._places.claim_queues(self._place.name, self._look_s):
                seen.update(await self._look_into(name))
            self._seen = seen
        except RunnerError as error:
            log.info("claims of boxes that died were not looked for", extra={"action": "sweep", "reason": str(error)})

    async def _look_into(self, name: str) -> dict[str, float]:
        seen: dict[str, float] = {}
        try:
            url = await self._places.url(name)
            for message in await self._visible(name, url):
                seen.update(await self._seen_now(name, url, message))
        except QueueMissing:
            self._places.forget(name)
        return seen

    async def _visible(self, name: str, url: str) -> list[Received]:
        found: list[Received] = []
        for _ in range(_MOST):
            more = await self._access.receive(name, url, wait_s=0, hidden_s=_HIDDEN_S)
            found += more
            if not more:
                break
        return found

    async def _seen_now(self, name: str, url: str, message: Received) -> dict[str, float]:
        first_s = self._seen.get(message.message_id, self._clock())
        if self._clock() - first_s > message.envelope.lease_s:
            await self._give_back(name, url, message)
            return {}
        await self._show(url, message)
        return {message.message_id: first_s}

    async def _give_back(self, name: str, url: str, message: Received) -> None:
        log.warning(
            "the claim of a box that is gone goes back to its queue",
            extra={"action": "sweep", "queue": self._place.name, "claimed_in": name, "message_id": message.message_id},
        )
        told = msgspec.structs.replace(message.envelope, claim="", queue="", lease_s=0.0)
        await self._sender.copy(
            message.body, told, message.foreign, after_s=0.0, unique=f"{message.envelope.claim}-back"
        )
        await self._access.delete(url, message.handle)

    async def _show(self, url: str, message: Received) -> None:
        try:
            await self._access.hide(url, message.handle, 0)
        except LeaseLost:
            return
