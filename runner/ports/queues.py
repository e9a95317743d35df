"""Queues: one credential's service, its queues, their deliveries."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import msgspec

from runner.credential import Credential
from runner.job import Note, Verdict

NOBODY: Mapping[str, float] = MappingProxyType({})
"""No user was served yet."""


class Delivery(msgspec.Struct, frozen=True):
    """
    One claimed message.

    ``token`` names the claim, ``submission`` the message itself, equal at every delivery. ``body`` is cut at 1 MiB + 1
    byte; ``enqueued_at`` is the first submission, in epoch seconds, over all retries. ``anonymous``: it was put without
    a user, so it took the turn of user "".
    """

    token: str
    body: bytes
    submission: str
    enqueued_at: float
    note: Note = Note()
    anonymous: bool = False


class QueuedMessage(msgspec.Struct, frozen=True):
    """
    One message as it stands in its queue; ``job_id`` and ``user`` as they were put, "" where the service has not kept
    them.

    ``due_at`` is set where it waits for a retry, ``claimed`` where a box has it. Times are epoch seconds.
    """

    submission: str
    enqueued_at: float
    body: bytes
    job_id: str = ""
    user: str = ""
    due_at: float | None = None
    claimed: bool = False


class DeadLetterRow(msgspec.Struct, frozen=True):
    """One rejected message; ``job_id`` and ``body`` as in ``QueuedMessage`` and ``Delivery``."""

    submission: str
    reason: str
    at: float
    note: Note = Note()
    body: bytes = b""
    job_id: str = ""


class Queue(Protocol):
    """One open queue. Concurrent calls are allowed; ``fetch`` has one caller at a time."""

    name: str
    """As people call it."""
    identity: str
    """Equal on every box that reads this queue; part of a job's key."""
    lease_s: float
    """A claim lapses this long after it was made or renewed."""
    by_user: bool
    """Whether messages are held by user, so that ``served`` has a say in ``fetch``."""
    release_costs: bool
    """Whether the service counts a release as one of the deliveries after which it gives a message up."""
    ends_claims: bool
    """Whether its claims end as it is closed: another opening of it, on this box too, cannot take them up."""
    warning: str
    """What a person should know of how this queue is served, in one sentence; "" for nothing."""

    async def fetch(self, wait_s: float, served: Mapping[str, float] = NOBODY) -> Delivery | None:
        """
        Claim one message; wait up to ``wait_s`` for one. None: there was none.

        Highest priority first, then of the user who was ``served`` least (0 where nothing is said), then oldest; a
        service that orders less does as well as it can. Where ``by_user``, a user whose ``served`` is infinite is
        passed over, whatever the priority: their messages stay where they are, and the call waits on while there are
        no others.

        Messages whose claim lapsed, and retries that are due, count; but a lapsed claim of this process's own only a
        lease later, since after a sleep its renewal may be on its way.
        A message that arrives while the call is cancelled is released, or its claim lapses.
        """
        ...

    async def renew(self, token: str) -> None:
        """
        Extend the claim to ``lease_s`` from now.

        Raises:
            LeaseLost: the claim lapsed and may be another's.
        """
        ...

    def recall(self, token: str, body: bytes, note: Note) -> None:
        """
        Be told what the journal has of a claim of an earlier life, before that is renewed or settled.

        For a service where a message that is settled has to be sent anew, and can neither be read nor changed in place.
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

    async def put(self, body: bytes, *, job_id: str, user: str = "", priority: int = 0, submission: str = "") -> str:
        """
        Add a message durably and return its submission: the one that was chosen, else a new one.

        ``job_id`` lets the service find it for ``withdraw``. A chosen submission is 24 digits and letters a to f.

        Raises:
            BadInput: the service cannot carry a message like this; the text says why.
        """
        ...

    async def withdraw(self, job_id: str) -> tuple[Delivery, ...]:
        """
        Claim, out of their turn, the messages of a job that wait and that no box holds, delayed ones included; () also
        where the service cannot.

        Whoever asked stores their end and settles them; if it does not, the claims lapse and they wait again.
        """
        ...

    async def depth(self) -> int:
        """Count the messages that wait now, delayed ones not included."""
        ...

    async def peek(self, limit: int) -> tuple[QueuedMessage, ...] | None:
        """
        Look at up to ``limit`` messages of each state, without changing anything: those that wait in the order in
        which they would be fetched, delayed ones, claimed ones; None where the service cannot show them.
        """
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

    async def open(self, name: str, *, make: bool = True) -> Queue:
        """
        Open one queue; made at its first use where ``make`` says so and that is allowed. A call that fails leaves
        nothing open.

        Raises:
            NoSuchQueue: it is not there, and ``make`` is false; nothing was made then.
        """
        ...

    async def change(self, credential: Credential) -> None:
        """
        Go on with the secrets of another credential for the same service, in open queues, too.

        What is under way may end with the old ones; no claim is lost by it.
        """
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...
