"""
Deliveries held unacknowledged, each in a channel of its own: for whoever may not make the queues that claims need.

Then a claim ends with its connection, and the broker hands the message to another box at once; it also does so where a
job outlasts the broker's ``consumer_timeout``. Notes travel with a message only where it is put back by us.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from adapters.queues.rabbitmq_envelope import (
    Envelope,
    Message,
    fingerprint,
    known_envelope,
    packed,
    to_delivery,
)
from adapters.queues.rabbitmq_lane import Lane
from adapters.queues.rabbitmq_link import Link
from adapters.queues.rabbitmq_names import new_token
from adapters.queues.rabbitmq_own import OwnQueues
from adapters.queues.rabbitmq_session import Session
from adapters.queues.rabbitmq_trouble import NotAllowed, explained
from runner.errors import LeaseLost
from runner.job import Note, Verdict
from runner.ports import Delivery

log = logging.getLogger(__name__)


class _Held(msgspec.Struct, frozen=True):
    """One delivery, and when it goes back into its queue, in loop seconds, where it waits for that here."""

    session: Session
    link: Link
    message: Message
    envelope: Envelope
    back_at: float | None = None


class HeldDeliveries:
    """What one process holds of one queue."""

    def __init__(self, own: OwnQueues, lane: Lane, *, lease_s: float, now: Callable[[], float]) -> None:
        self._own, self._lane, self._lease_s, self._now = own, lane, lease_s, now
        # By token.
        self._held: dict[str, _Held] = {}
        self._settled: dict[str, Verdict] = {}

    async def claim(self, session: Session, message: Message) -> Delivery | None:
        """Keep a delivery and the session that it came by."""
        envelope = known_envelope(message, self._now(), fingerprint(message))
        envelope = msgspec.structs.replace(envelope, token=new_token(self._lease_s))
        self._held[envelope.token] = _Held(session, self._lane.detach(session), message, envelope)
        return to_delivery(message, envelope)

    async def renew(self, token: str) -> None:
        """See whether the delivery is still ours."""
        self._find(token)

    async def settle(self, token: str, verdict: Verdict, *, after_s: float, note: Note, reason: str) -> None:
        """Carry out a verdict."""
        if self._settled.get(token) is verdict:
            return
        held = self._find(token)
        at = self._now() if verdict is Verdict.REJECT else 0.0
        envelope = msgspec.structs.replace(held.envelope, token="", note=note, reason=reason, dead_at=at)
        held = msgspec.structs.replace(held, envelope=envelope)
        match verdict:
            case Verdict.ACK:
                held.session.settle(held.message.tag)
                await self._end(token, held)
            case Verdict.REJECT:
                await self._reject(token, held)
            case _:
                await self._put_back(token, held, after_s)
        self._settled = {**dict(list(self._settled.items())[-1000:]), token: verdict}

    async def put_back_due(self) -> None:
        """Put back what waited here for its retry."""
        now = asyncio.get_running_loop().time()
        for token, held in tuple(self._held.items()):
            if held.back_at is not None and held.back_at <= now:
                await self._publish(token, held, self._own.queue)

    def next_s(self) -> float:
        """Return how long it is until something is to be put back."""
        times = [held.back_at for held in self._held.values() if held.back_at is not None]
        return max(0.0, min(times, default=float("inf")) - asyncio.get_running_loop().time())

    async def close(self) -> None:
        """Give everything back."""
        for token in tuple(self._held):
            self._drop(token)

    def _find(self, token: str) -> _Held:
        held = self._held.get(token)
        if held is None or held.back_at is not None or not held.session.is_open:
            self._drop(token)
            raise LeaseLost(f"delivery {token}: its connection broke or it was settled; another box may have it")
        return held

    async def _reject(self, token: str, held: _Held) -> None:
        try:
            await self._publish(token, held, await self._own.ready_dead())
        except NotAllowed:
            log.error(
                "a message is refused; unless its queue has a dead-letter exchange, the broker drops it",
                extra={"action": "reject", "source": self._own.queue, "reason": held.envelope.reason},
            )
            held.session.refuse(held.message.tag)
            await self._end(token, held)

    async def _put_back(self, token: str, held: _Held, after_s: float) -> None:
        try:
            await self._publish(token, held, await self._own.ready_later(after_s))
        except NotAllowed:
            back_at = asyncio.get_running_loop().time() + after_s
            self._held[f"waiting {token}"] = msgspec.structs.replace(held, back_at=back_at)
            del self._held[token]

    async def _publish(self, token: str, held: _Held, target: str) -> None:
        raw = packed(held.message.properties, held.envelope, held.session.room)
        held.session.publish(target, raw, held.message.body)
        held.session.settle(held.message.tag)
        await self._end(token, held)

    async def _end(self, token: str, held: _Held) -> None:
        try:
            with explained("settle", f"a delivery of queue {self._own.queue}"):
                await held.session.commit()
        finally:
            self._drop(token)

    def _drop(self, token: str) -> None:
        held = self._held.pop(token, None)
        if held is not None:
            held.session.abandon()
            held.link.ended(held.session, None)
