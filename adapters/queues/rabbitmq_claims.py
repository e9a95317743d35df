"""
Claims that lapse by themselves, which RabbitMQ does not have: a claimed message lies in a queue of this box, unfetched.

There it expires after a lease and goes home. A rotation takes what lies there, puts back anew what is renewed, moves
what is settled, and leaves the rest where it was with the time it had left: one transaction, so that a connection cut
at any moment loses and doubles nothing. All that is asked for while one is under way is done by the next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

import msgspec

from adapters.queues.rabbitmq_envelope import Envelope, Message, known_envelope, packed, read_envelope, to_delivery
from adapters.queues.rabbitmq_lane import Lane
from adapters.queues.rabbitmq_names import new_submission, new_token, token_lease_s
from adapters.queues.rabbitmq_own import OwnQueues
from adapters.queues.rabbitmq_session import Session
from adapters.queues.rabbitmq_trouble import explained
from runner.errors import LeaseLost, RunnerError, Unavailable
from runner.job import Note, Verdict
from runner.ports import Delivery

log = logging.getLogger(__name__)

REMEMBERED = 1000

Change = Callable[[Envelope], Envelope]


class _Wish:
    """What somebody wants of one claim: to go to a queue with another envelope, or nowhere; renewed without verdict."""

    def __init__(self, token: str, verdict: Verdict | None, target: str, change: Change) -> None:
        self.token, self.verdict, self.target, self.change = token, verdict, target, change
        self.done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.done.add_done_callback(lambda done: done.cancelled() or done.exception())

    def tell(self, *, found: bool) -> None:
        if not self.done.done():
            self.done.set_result(found)

    def fail(self, error: RunnerError) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class _Sent(msgspec.Struct, frozen=True):
    """A message of a transaction, kept until it is known to have arrived."""

    target: str
    properties: bytes
    body: bytes


class Claims:
    """The claims of one box on one queue."""

    def __init__(self, own: OwnQueues, lane: Lane, *, lease_s: float, now: Callable[[], float]) -> None:
        self._own, self._lane, self._lease_s, self._now = own, lane, lease_s, now
        # Claims of this process by token: until when they stand, in loop seconds.
        self._held: dict[str, float] = {}
        # Lapsed ones of these that a fetch met and claimed again: once, until they are renewed.
        self._again: set[str] = set()
        # How claims were settled, the newest last; and settlements of which it is not known whether they went through.
        self._settled: dict[str, Verdict] = {}
        self._doubtful: dict[str, Verdict] = {}
        self._wishes: list[_Wish] = []

    async def claim(self, session: Session, message: Message) -> Delivery | None:
        """
        Move a message that was taken from the queue to where claims lie; None for one that was claimed by this process.

        That one lapsed while the box slept; its renewal may be on its way.
        """
        target = await self._own.firm(await self._own.ready_claimed())
        envelope = known_envelope(message, self._now(), new_submission())
        again = self._is_again(envelope.token)
        token = envelope.token if again else new_token(self._lease_s)
        envelope = msgspec.structs.replace(envelope, token=token)
        until = asyncio.get_running_loop().time() + self._lease_s
        sent = _Sent(target, packed(message.properties, envelope, session.room), message.body)
        await self._move(session, message.tag, sent)
        self._held[token] = until
        return None if again else to_delivery(message, envelope)

    async def renew(self, token: str) -> None:
        """Let a claim stand for another lease; LeaseLost where it does not stand any more."""
        if token in self._settled or token_lease_s(token) is None:
            raise _lost(token)
        target = await self._own.ready_claimed()
        if not await self._carry_out(_Wish(token, None, target, lambda envelope: envelope)):
            self._forget(token)
            raise _lost(token)

    async def settle(self, token: str, verdict: Verdict, *, after_s: float, note: Note, reason: str) -> None:
        """Carry out a verdict; the same one again is no error as long as this process remembers."""
        if token_lease_s(token) is None or self._settled.get(token, verdict) is not verdict:
            raise _lost(token)
        if token in self._settled:
            return
        target = await self._target(verdict, after_s)
        at = self._now() if verdict is Verdict.REJECT else 0.0
        change = lambda it: msgspec.structs.replace(it, token="", note=note, reason=reason, dead_at=at)  # noqa: E731
        found = await self._carry_out(_Wish(token, verdict, target, change))
        self._forget(token)
        if not found:
            raise _lost(token)
        self._settled[token] = verdict
        while len(self._settled) > REMEMBERED:
            self._settled.pop(next(iter(self._settled)))

    async def _target(self, verdict: Verdict, after_s: float) -> str:
        match verdict:
            case Verdict.ACK:
                return ""
            case Verdict.REJECT:
                return await self._own.ready_dead()
            case _:
                return await self._own.ready_later(after_s)

    def _is_again(self, token: str) -> bool:
        """Tell whether a message that waits is a claim of this process that lapsed just now."""
        if token not in self._held:
            return False
        if token in self._again:
            self._forget(token)
            return False
        self._again.add(token)
        return True

    def _forget(self, token: str) -> None:
        self._held.pop(token, None)
        self._again.discard(token)
        self._doubtful.pop(token, None)

    # Rotation

    async def _carry_out(self, wish: _Wish) -> bool:
        """Do what is wanted with all that is wanted by then; whoever has the session does it for everybody."""
        self._wishes.append(wish)
        try:
            while not wish.done.done():
                async with self._lane.use() as session:
                    if not wish.done.done():
                        await self._rotate(session)
        finally:
            self._wishes.remove(wish)
        return wish.done.result()

    async def _rotate(self, session: Session) -> None:
        batch: dict[str, _Wish] = {}
        for wish in self._wishes:
            if not wish.done.done():
                batch.setdefault(wish.token, wish)
        missing = dict(batch)
        try:
            with explained("renew or settle claims of queue", f"{self._own.queue} at {self._own.link.address}"):
                sent = await self._walk(session, missing)
                found = [wish for wish in batch.values() if wish.token not in missing]
                await self._commit(session, found, sent)
        except RunnerError as error:
            for wish in batch.values():
                wish.fail(error)
            raise
        for wish in missing.values():
            self._not_found(wish)

    async def _walk(self, session: Session, missing: dict[str, _Wish]) -> list[_Sent]:
        """Take what is wanted out of ``missing`` as it is found; what else lies there stays."""
        sent = []
        for queue in self._places(missing):
            while missing and (message := await session.get(queue)) is not None:
                envelope = read_envelope(message.properties) or Envelope()
                wish = missing.pop(envelope.token, None)
                if wish is None:
                    session.give_back(message.tag)
                    continue
                if wish.target:
                    raw = packed(message.properties, wish.change(envelope), session.room)
                    sent.append(_Sent(wish.target, raw, message.body))
                    session.publish(wish.target, raw, message.body)
                session.settle(message.tag)
        return sent

    def _places(self, tokens: Iterable[str]) -> list[str]:
        """Name the queues where claims may lie: where they go now, and where an earlier lease put them."""
        leases = {token_lease_s(token) or self._lease_s for token in tokens} - {self._lease_s}
        return [self._own.claimed, *map(self._own.claimed_for, leases)]

    async def _commit(self, session: Session, found: list[_Wish], sent: list[_Sent]) -> None:
        if not session.took_any:
            return
        self._doubtful.update({wish.token: wish.verdict for wish in found if wish.verdict is not None})
        until = asyncio.get_running_loop().time() + self._lease_s
        if not await session.commit():
            await self._rescue(session, sent)
        for wish in found:
            if wish.verdict is None:
                self._held[wish.token] = until
                self._again.discard(wish.token)
            wish.tell(found=True)

    def _not_found(self, wish: _Wish) -> None:
        """Tell that a claim is not there; but one that was being settled as the connection broke is, while it stood."""
        if not self._lane.link.is_sure():
            wish.fail(Unavailable(f"claim {wish.token}: a connection that broke may hold it for some seconds"))
            return
        stood = asyncio.get_running_loop().time() < self._held.get(wish.token, 0.0)
        wish.tell(found=stood and wish.verdict is not None and self._doubtful.get(wish.token) is wish.verdict)

    # Moving

    async def _move(self, session: Session, tag: int, sent: _Sent) -> None:
        session.publish(sent.target, sent.properties, sent.body)
        session.settle(tag)
        if not await session.commit():
            await self._rescue(session, [sent])

    async def _rescue(self, session: Session, sent: list[_Sent]) -> None:
        """Put once more what had no queue to go to, since somebody deleted it meanwhile."""
        log.warning("a queue was gone", extra={"action": "rescue", "source": self._own.queue})
        for message in sent:
            if await self._own.is_missing(message.target):
                await self._restore(message.target)
                session.publish(message.target, message.properties, message.body)
        if not await session.commit():
            raise Unavailable(f"queue {self._own.queue}: somebody deletes it while it is used")

    async def _restore(self, target: str) -> None:
        if target == self._own.claimed:
            await self._own.ready_claimed()
        elif target.endswith(".dead"):
            await self._own.ready_dead()
        elif target == self._own.queue:
            await self._own.ready_main()
        else:
            await self._own.ready_later(float(target.rpartition(".")[2]))


def _lost(token: str) -> LeaseLost:
    return LeaseLost(f"claim {token}: it lapsed or was settled; another box may have it")
