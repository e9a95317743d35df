"""
What senders hold: addresses, replies, and the words for what can go wrong on the way.

Never stores a message; that is the mailbox's.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from runner.kernel.mailbox import Mailbox

M_contra = TypeVar("M_contra", contravariant=True)
R = TypeVar("R")


class Overflow(enum.Enum):
    """What `tell` does when the normal lane is full."""

    WAIT = "wait"
    DROP_OLDEST = "drop oldest"
    REFUSE = "refuse"


class MailboxFull(Exception):
    """The normal lane of an actor that refuses when full is full; send less, or later."""


class ActorStopped(Exception):
    """The actor ended, or crashed over this very message, before it answered."""


@dataclass(frozen=True)
class DeadLetter:
    """A message that nobody will handle: its actor had stopped, or crashed while handling it."""

    to: str
    message: object
    reason: Literal["stopped", "crashed"]


@dataclass(frozen=True)
class Counters:
    """One mailbox at a glance: lengths now, the highest ever seen, and how many messages found no room."""

    name: str
    capacity: int
    depth: int
    high: int
    urgent_depth: int
    urgent_high: int
    dropped: int


class Reply(Generic[R]):
    """The way back to one asker. Only the first answer or failure counts; later ones are ignored."""

    __slots__ = ("_future",)

    def __init__(self, future: asyncio.Future[R]) -> None:
        self._future = future

    def answer(self, value: R) -> None:
        """Give the asker the value."""
        if not self._future.done():
            self._future.set_result(value)

    def fail(self, error: Exception) -> None:
        """Raise the error where the asker waits."""
        if not self._future.done():
            self._future.set_exception(error)


class Ref(Generic[M_contra]):
    """The address of an actor: valid before it starts, across its restarts, and (as dead letters) after its end."""

    __slots__ = ("_mailbox", "_normal", "name")

    def __init__(self, mailbox: Mailbox[M_contra]) -> None:
        self.name = mailbox.name
        self._mailbox = mailbox
        self._normal = mailbox.normal

    def __repr__(self) -> str:
        return f"Ref({self.name!r})"

    async def tell(self, message: M_contra) -> None:
        """
        Put a message on the normal lane. If this is cancelled, nothing was sent.

        Raises:
            MailboxFull: the lane is full and the mailbox refuses.
        """
        if len(self._normal) < self._mailbox.fast_below:
            self._normal.append(message)
        else:
            await self._mailbox.put(message)

    def urgent(self, message: M_contra) -> None:
        """Put a message on the urgent lane, ahead of everything on the normal one."""
        self._mailbox.put_urgent(message)

    def offer(self, message: M_contra) -> bool:
        """Put a message on the normal lane if there is room now. Returns False, and counts it, if there is none."""
        return self._mailbox.offer(message)

    async def ask(self, make: Callable[[Reply[R]], M_contra], timeout_s: float) -> R:
        """
        Send what `make` builds around a reply on the urgent lane, and wait for the answer. For the edges only.

        Raises:
            TimeoutError: no answer within `timeout_s`.
            ActorStopped: the actor has ended, ends before it answers, or crashes over this message.
        """
        mailbox = self._mailbox
        loop = mailbox.loop or asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        reply = Reply(future)
        message = make(reply)
        deadline = loop.time() + timeout_s
        mailbox.asks[reply] = deadline, message
        if deadline < mailbox.expiry:
            mailbox.expire_at(deadline)
        mailbox.put_urgent(message)
        try:
            return await future
        finally:
            del mailbox.asks[reply]
