"""Queues: one credential's service, its queues, their deliveries."""

from __future__ import annotations

from typing import Protocol

import msgspec

from runner.job import Note, Verdict


class Delivery(msgspec.Struct, frozen=True):
    """
    One claimed message.

    ``token`` names the claim, ``submission`` the message itself, equal at every delivery. ``body`` is cut at 1 MiB + 1
    byte; ``enqueued_at`` is the first submission, in epoch seconds, over all retries.
    """

    token: str
    body: bytes
    submission: str
    enqueued_at: float
    note: Note = Note()


class DeadLetterRow(msgspec.Struct, frozen=True):
    """One rejected message."""

    submission: str
    reason: str
    at: float
    note: Note = Note()


class Queue(Protocol):
    """One open queue. Concurrent calls are allowed; ``fetch`` has one caller at a time."""

    name: str
    """As people call it."""
    identity: str
    """Equal on every box that reads this queue; part of a job's key."""
    lease_s: float
    """A claim lapses this long after it was made or renewed."""

    async def fetch(self, wait_s: float) -> Delivery | None:
        """
        Claim one message; wait up to ``wait_s`` for one. None: there was none.

        Highest priority first, then oldest. Messages whose claim lapsed, and retries that are due, count; but a
        lapsed claim of this process's own only a lease later, since after a sleep its renewal may be on its way. A
        message that arrives while the call is cancelled is released, or its claim lapses.
        """
        ...

    async def renew(self, token: str) -> None:
        """
        Extend the claim to ``lease_s`` from now.

        Raises:
            LeaseLost: the claim lapsed and may be another's.
        """
        ...

    async def settle(self, token: str, verdict: Verdict, *, after_s: float, note: Note, reason: str) -> None:
        """
        Carry out a verdict: ACK forgets the message, RETRY and RELEASE make it visible after ``after_s`` seconds with
        ``note`` beside it, REJECT moves it to the dead letters with ``reason``. The body's bytes never change.

        Idempotent: the same call again, also after a crash in the middle, ends in the same state.

        Raises:
            LeaseLost: the claim is another's, or was settled otherwise.
        """
        ...

    async def put(self, body: bytes, *, job_id: str, user: str = "", priority: int = 0) -> str:
        """Add a message durably and return its submission. ``job_id`` lets the service find it for ``withdraw``."""
        ...

    async def withdraw(self, job_id: str) -> tuple[Delivery, ...]:
        """
        Claim, out of their turn, the messages of a job that wait and that no box holds, delayed ones included.

        Whoever asked stores their end and settles them; if it does not, the claims lapse and they wait again.
        """
        ...

    async def depth(self) -> int:
        """Count the messages that wait now, delayed ones not included."""
        ...

    async def dead(self) -> tuple[DeadLetterRow, ...]:
        """List the dead letters, oldest first."""
        ...

    async def retry_dead(self, submission: str) -> bool:
        """Make a dead letter wait again with a fresh note; False where there is none."""
        ...

    async def drop_dead(self, submission: str) -> bool:
        """Delete a dead letter; False where there is none."""
        ...

    async def prune(self, before: float) -> int:
        """Delete dead letters rejected before this epoch second; return how many."""
        ...

    async def close(self) -> None:
        """Release what the queue holds open. Claims lapse by themselves."""
        ...


class Broker(Protocol):
    """One credential's service."""

    async def queues(self) -> tuple[str, ...]:
        """List the names of the queues behind it, sorted."""
        ...

    async def open(self, name: str) -> Queue:
        """Open one queue; made at its first use where that is allowed. A call that fails leaves nothing open."""
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...
