"""
What waits for an actor: the two lanes, the senders that wait for room, and the asks that wait for an answer.

Never handles a message.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from runner.kernel.ref import ActorStopped, Counters, DeadLetter, MailboxFull, Overflow, Ref, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

M = TypeVar("M")
R = TypeVar("R")


class Mailbox(Generic[M]):
    """Two lanes for one receiver: a bounded normal one, and an urgent one that never makes a sender wait."""

    def __init__(
        self,
        name: str,
        *,
        capacity: int = 64,
        overflow: Overflow = Overflow.WAIT,
        on_dead_letter: Callable[[DeadLetter], None] = lambda _: None,
    ) -> None:
        self.name = name
        self.capacity = capacity
        self.overflow = overflow
        self.on_dead_letter = on_dead_letter
        self.ref: Ref[M] = Ref(self)
        self.normal: deque[M] = deque()
        self.urgent: deque[M] = deque()
        # Senders that wait for room, oldest first; `reserved` places belong to those woken but not yet resumed.
        self.waiters: deque[asyncio.Future[None]] = deque()
        self.reserved = 0
        # Below this length `tell` may simply append. It is the high-water mark, so that passing the mark takes the long
        # way and is counted; and 0 while anybody must be woken, waited for or turned away.
        self.fast_below = 0
        self.high = 0
        self.urgent_high = 0
        self.dropped = 0
        # Set while the receiver sleeps; both lanes are empty then.
        self.sleeper: asyncio.Future[None] | None = None
        self.draining = False
        self.closed = False
        self._declared: tuple[int | None, Overflow | None] = (None, None)
        self.asks: dict[int, Reply[object]] = {}

    def declare(self, capacity: int | None, overflow: Overflow | None) -> Mailbox[M]:
        """
        Fix what is not None, for good.

        Raises:
            ValueError: it was fixed to something else before.
        """
        wanted = (capacity or self._declared[0], overflow or self._declared[1])
        if any(old not in {None, new} for old, new in zip(self._declared, wanted, strict=True)):
            text = f"cannot declare mailbox {self.name!r} as {wanted}: it was declared as {self._declared}"
            raise ValueError(text)
        self._declared = wanted
        self.suit(self.capacity, self.overflow)
        return self

    def suit(self, capacity: int, overflow: Overflow) -> None:
        """Take from the actor what was not declared."""
        self.capacity = self._declared[0] or capacity
        self.overflow = self._declared[1] or overflow
        self.admit()
        self._settle()

    def counters(self) -> Counters:
        """The lengths, marks and losses of this moment."""
        urgent = len(self.urgent)
        return Counters(self.name, self.capacity, len(self.normal), self.high, urgent, self.urgent_high, self.dropped)

    async def put(self, message: M) -> None:
        if self.draining:
            self.bury(message, "stopped")
        elif self._has_room():
            self._append(message)
        elif self.overflow is Overflow.DROP_OLDEST:
            self.dropped += 1
            self.normal.popleft()
            self._append(message)
        elif self.overflow is Overflow.REFUSE:
            self.dropped += 1
            text = f"cannot tell {type(message).__name__} to actor {self.name!r}: {self.capacity} messages wait already"
            raise MailboxFull(text)
        else:
            await self._place()
            self._take_place(message)

    def offer(self, message: M) -> bool:
        if self.draining:
            self.bury(message, "stopped")
        elif self._has_room():
            self._append(message)
            return True
        self.dropped += 1
        return False

    def put_urgent(self, message: M) -> None:
        if self.closed:
            self.bury(message, "stopped")
            return
        self.urgent.append(message)
        self.urgent_high = max(self.urgent_high, len(self.urgent))
        if self.sleeper is not None:
            self._wake()

    async def ask(self, message: M, reply: Reply[R], timeout_s: float) -> R:
        expiry = TimeoutError(f"actor {self.name!r} did not answer {type(message).__name__} within {timeout_s} s")
        timer = asyncio.get_running_loop().call_later(timeout_s, reply.fail, expiry)
        self.asks[id(message)] = reply  # type: ignore[assignment]  # only ever failed, never answered, through here
        self.put_urgent(message)
        try:
            return await reply._future  # noqa: SLF001 - the asker's half of the reply
        finally:
            timer.cancel()
            self.asks.pop(id(message), None)

    async def take(self) -> M:
        """The next message, urgent ones first; waits for one. One receiver at a time."""
        while not (self.urgent or self.normal):
            await self.arrival()
        if self.urgent:
            return self.urgent.popleft()
        message = self.normal.popleft()
        self.admit()
        return message

    async def arrival(self) -> None:
        """Sleep until something arrives or the mailbox begins to drain; both lanes must be empty."""
        self.fast_below = 0
        self.sleeper = asyncio.get_running_loop().create_future()
        try:
            await self.sleeper
        except BaseException:
            self._wake()
            raise

    def admit(self) -> None:
        """Give each free place to the sender that has waited longest."""
        while self.waiters and (self.draining or len(self.normal) + self.reserved < self.capacity):
            waiter = self.waiters.popleft()
            if not waiter.done():
                self.reserved += 1
                waiter.set_result(None)

    def open(self) -> None:
        self.draining = self.closed = False
        self._settle()

    def drain(self) -> None:
        """Accept nothing more on the normal lane, release who waits to send, and wake the receiver to finish."""
        self.draining = True
        self.admit()
        self._wake()

    def close(self) -> None:
        """Accept nothing at all; what is left becomes dead letters and whoever waits for an answer is told."""
        self.closed = True
        self.drain()
        for lane in (self.urgent, self.normal):
            while lane:
                self.bury(lane.popleft(), "stopped")
        for reply in self.asks.values():
            reply.fail(ActorStopped(f"actor {self.name!r} stopped before it answered"))

    def bury(self, message: M, reason: Literal["stopped", "crashed"]) -> None:
        """Report a message that nobody will handle."""
        if reply := self.asks.get(id(message)):
            reply.fail(ActorStopped(f"actor {self.name!r} {reason} before it answered {type(message).__name__}"))
        self.on_dead_letter(DeadLetter(self.name, message, reason))

    def _has_room(self) -> bool:
        return not self.waiters and len(self.normal) + self.reserved < self.capacity

    def _append(self, message: M) -> None:
        self.normal.append(message)
        self.high = max(self.high, len(self.normal))
        self._wake()

    def _wake(self) -> None:
        sleeper, self.sleeper = self.sleeper, None
        if sleeper is not None and not sleeper.done():
            sleeper.set_result(None)
        self._settle()

    def _settle(self) -> None:
        long_way = self.draining or self.waiters or self.reserved or self.sleeper is not None
        self.fast_below = 0 if long_way else min(self.high, self.capacity)

    async def _place(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        self._settle()
        try:
            await waiter
        except BaseException:
            self._forgo(waiter)
            raise

    def _take_place(self, message: M) -> None:
        self.reserved -= 1
        if self.draining:
            self.bury(message, "stopped")
        else:
            self._append(message)

    def _forgo(self, waiter: asyncio.Future[None]) -> None:
        if waiter.done() and not waiter.cancelled():
            self.reserved -= 1
            self.admit()
        else:
            with contextlib.suppress(ValueError):
                self.waiters.remove(waiter)
        self._settle()
