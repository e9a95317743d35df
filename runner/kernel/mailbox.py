"""
What waits for an actor: the two lanes, the senders that wait for room, and the asks that wait for an answer.

Never handles a message.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar

from runner.kernel.ref import ActorStopped, Counters, DeadLetter, MailboxFull, Overflow, Ref, Reply

M = TypeVar("M")


class Mailbox(Generic[M]):
    """Two lanes for one receiver: a bounded normal one, and an urgent one that never makes a sender wait."""

    def __init__(self, name: str, on_dead_letter: Callable[[DeadLetter], None]) -> None:
        self.name = name
        self.capacity = 64
        self.overflow = Overflow.WAIT
        self.normal: deque[M] = deque()
        self.urgent: deque[M] = deque()
        self.ref: Ref[M] = Ref(self)
        # Senders that wait for room, oldest first; `_reserved` places belong to those woken but not yet resumed.
        self.waiters: deque[asyncio.Future[bool]] = deque()
        self._reserved = 0
        # Below this length `tell` may simply append. It is the high-water mark, so that passing the mark takes the long
        # way and is counted; and 0 while anybody must be woken, waited for or turned away.
        self.fast_below = 0
        self.high = self.urgent_high = self.dropped = 0
        # Set while the receiver sleeps; both lanes are empty then.
        self.sleeper: asyncio.Future[None] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        # Draining: nothing more on the normal lane. Closed: nothing at all.
        self.draining = self.closed = False
        # Who waits for an answer, until when, to what; all share one timer, since most never need it.
        self.asks: dict[Reply[Any], tuple[float, M]] = {}
        self.expiry = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._on_dead_letter = on_dead_letter
        self._declared: tuple[int | None, Overflow | None] = (None, None)

    def declare(self, capacity: int | None, overflow: Overflow | None) -> None:
        """Fix what is not None: it then counts more than what the actor's class says."""
        self._declared = capacity or self._declared[0], overflow or self._declared[1]
        self.suit(self.capacity, self.overflow)

    def suit(self, capacity: int, overflow: Overflow) -> None:
        """Take from the actor's class what was not declared."""
        self.capacity = self._declared[0] or capacity
        self.overflow = self._declared[1] or overflow
        self.admit()
        self._settle()

    def counters(self) -> Counters:
        """The lengths, marks and losses of this moment."""
        urgent = len(self.urgent)
        return Counters(self.name, self.capacity, len(self.normal), self.high, urgent, self.urgent_high, self.dropped)

    async def put(self, message: M) -> None:
        """Do what `Ref.tell` promises, whatever state this is in."""
        if self.draining:
            self.bury(message, "stopped")
        elif self._has_room():
            self._append(message)
        elif self.overflow is Overflow.WAIT:
            await self._put_later(message)
        else:
            self.dropped += 1
            if self.overflow is Overflow.REFUSE:
                what = f"{type(message).__name__} to actor {self.name!r}"
                raise MailboxFull(f"cannot tell {what}: {self.capacity} messages wait already")
            self.normal.popleft()
            self._append(message)

    def offer(self, message: M) -> bool:
        """Do what `Ref.offer` promises."""
        if not self.draining and self._has_room():
            self._append(message)
            return True
        self.dropped += 1
        if self.draining:
            self.bury(message, "stopped")
        return False

    def put_urgent(self, message: M) -> None:
        """Do what `Ref.urgent` promises."""
        if self.closed:
            self.bury(message, "stopped")
            return
        self.urgent.append(message)
        if len(self.urgent) > self.urgent_high:  # noqa: PLR1730 - max() takes four times as long
            self.urgent_high = len(self.urgent)
        if self.sleeper is not None:
            self._wake()

    def expire_at(self, deadline: float) -> None:
        """Look at that loop time for asks that have waited too long."""
        if self._timer is not None:
            self._timer.cancel()
        self.expiry = deadline
        self._timer = asyncio.get_running_loop().call_at(deadline, self._expire)

    def sleep(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """Return what is done when something arrives or the mailbox drains; only while both lanes are empty."""
        self.fast_below = 0
        self.sleeper = loop.create_future()
        return self.sleeper

    def admit(self) -> None:
        """Wake as many senders as there are places, those first that have waited longest."""
        while self.waiters and (self.draining or self._has_room()):
            waiter = self.waiters.popleft()
            if not waiter.done():
                self._reserved += 1
                waiter.set_result(self.draining)

    def open(self) -> None:
        """Accept messages again, under the same ref."""
        self.draining = self.closed = False
        self._settle()

    def drain(self) -> None:
        """Accept nothing more on the normal lane, release who waits to send, and wake the receiver to finish."""
        self.draining = True
        self.admit()
        self._wake()
        self._settle()

    def close(self) -> None:
        """Accept nothing at all; what is left becomes dead letters and whoever waits for an answer is told."""
        self.closed = True
        self.drain()
        for lane in (self.urgent, self.normal):
            while lane:
                self.bury(lane.popleft(), "stopped")
        for reply in self.asks:
            reply.fail(ActorStopped(f"actor {self.name!r} stopped before it answered"))

    def bury(self, message: M, reason: Literal["stopped", "crashed"]) -> None:
        """Report a message that nobody will handle."""
        for reply, (_, question) in self.asks.items():
            if question is message:
                reply.fail(ActorStopped(f"actor {self.name!r} {reason} before it answered {type(message).__name__}"))
        self._on_dead_letter(DeadLetter(self.name, message, reason))

    def _has_room(self) -> bool:
        return len(self.normal) + self._reserved < self.capacity

    def _append(self, message: M) -> None:
        self.normal.append(message)
        self.high = max(self.high, len(self.normal))
        self._wake()
        self._settle()

    async def _put_later(self, message: M) -> None:
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        self._settle()
        try:
            released = await waiter
        except BaseException:
            self._forgo(waiter)
            raise
        self._reserved -= 1
        if released or self.draining:
            self.bury(message, "stopped")
        else:
            self._append(message)

    def _forgo(self, waiter: asyncio.Future[bool]) -> None:
        if waiter.done() and not waiter.cancelled():
            self._reserved -= 1
        elif waiter in self.waiters:
            self.waiters.remove(waiter)
        self.admit()
        self._settle()

    def _wake(self) -> None:
        sleeper, self.sleeper = self.sleeper, None
        if sleeper is not None and not sleeper.done():
            sleeper.set_result(None)

    def _settle(self) -> None:
        long_way = self.draining or self.waiters or self._reserved or self.sleeper is not None
        self.fast_below = 0 if long_way else min(self.high, self.capacity)

    def _expire(self) -> None:
        due, self.expiry = self.expiry, math.inf
        for reply, (deadline, question) in self.asks.items():
            if deadline <= due:
                reply.fail(TimeoutError(f"actor {self.name!r} did not answer {type(question).__name__} in time"))
        if left := [deadline for deadline, _ in self.asks.values() if deadline > due]:
            self.expire_at(min(left))
