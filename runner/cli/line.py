"""
What stands in a queue, for commands that look: the jobs that wait, in their order, and those that boxes have claimed.

A folder queue is looked at without opening it, so that whoever looks makes nothing; any other through its port.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from runner.job import Job, Key, make_key
from runner.receipt import JobRow

if TYPE_CHECKING:
    from pathlib import Path

    from adapters.queues.folder_peek import WaitingMessage
    from runner.ports import Delivery, Queue, QueuedMessage

BODIES_MAX = 500
LOOK_MAX = 1000


class WaitingJob(msgspec.Struct, frozen=True):
    """A job that stands in a queue; ``due_at`` is set where it waits for its next attempt."""

    key: Key
    row: JobRow
    due_at: float | None = None


class Standing(msgspec.Struct, frozen=True):
    """The jobs of a queue: ``waiting`` in the order in which they will be fetched, of ``depth`` that may be now."""

    waiting: tuple[WaitingJob, ...] = ()
    claimed: tuple[WaitingJob, ...] = ()
    depth: int = 0

    def named(self, job_id: str) -> tuple[WaitingJob, ...]:
        """Return those that wait under this id or key."""
        return tuple(job for job in self.waiting if job_id in {job.row.id, job.key})

    def place(self, key: Key) -> int:
        """Return how manieth a job is of those that may be fetched now, from 1; 0 for any other."""
        keys = [job.key for job in self.waiting if job.due_at is None]
        return keys.index(key) + 1 if key in keys else 0


class Line(Protocol):
    """A queue as commands look at it."""

    name: str

    async def jobs(self) -> Standing | None:
        """Look, without changing anything; None where the service cannot show what stands in it."""
        ...


class FolderLine:
    """A queue in a directory, which need not be there. Blocking, for a command's own loop."""

    def __init__(self, root: Path) -> None:
        """Keep where it stands."""
        self._root, self.name = root, root.name

    async def jobs(self) -> Standing | None:
        from adapters.queues.folder_peek import claimed_messages, queue_identity, waiting_messages

        root = str(self._root)
        identity, waiting = queue_identity(root), waiting_messages(root)
        depth = sum(message.due_at is None for message in waiting)
        return Standing(self._jobs(identity, waiting), self._jobs(identity, claimed_messages(root)), depth)

    def _jobs(self, identity: str, messages: tuple[WaitingMessage, ...]) -> tuple[WaitingJob, ...]:
        """Name the jobs of messages; what each is called is read for the first 500."""
        bodies = (message.body() if index < BODIES_MAX else b"" for index, message in enumerate(messages))
        called = (_called(body, it.submission, otherwise=it.job) for body, it in zip(bodies, messages, strict=True))
        return tuple(_waiting(row, identity, self.name, it) for row, it in zip(called, messages, strict=True))


class ServiceLine:
    """An open queue of any kind."""

    def __init__(self, queue: Queue) -> None:
        """Keep the queue, which the caller closes."""
        self._queue, self.name = queue, queue.name

    async def jobs(self) -> Standing | None:
        found = await self._queue.peek(LOOK_MAX)
        if found is None:
            return None
        waiting, claimed = [it for it in found if not it.claimed], [it for it in found if it.claimed]
        ready = sum(it.due_at is None for it in waiting)
        depth = ready if ready < LOOK_MAX else max(ready, await self._queue.depth())
        return Standing(tuple(map(self._job, waiting)), tuple(map(self._job, claimed)), depth)

    def _job(self, message: QueuedMessage) -> WaitingJob:
        called = _called(message.body, message.submission, otherwise=message.job_id)
        return _waiting(called, self._queue.identity, self.name, message)


def job_of(queue: Queue, delivery: Delivery) -> WaitingJob:
    """Name the job of a message that this command claimed."""
    called = _called(delivery.body, delivery.submission)
    return _waiting(called, queue.identity, queue.name, delivery)


def _waiting(
    called: JobRow, identity: str, queue: str, message: WaitingMessage | QueuedMessage | Delivery
) -> WaitingJob:
    key = make_key(identity, called.id, message.submission)
    row = msgspec.structs.replace(called, queue=queue, submitted_at=message.enqueued_at)
    return WaitingJob(key, row, getattr(message, "due_at", None))


def _called(body: bytes, submission: str, *, otherwise: str = "") -> JobRow:
    """Return what a message's job is called, as whoever claims it will call it; ``otherwise`` where it is not read."""
    from adapters.wire.native import decode

    job = decode(body).job if body else Job(id=otherwise)
    return JobRow(job.id or submission, name=job.name, user=job.user)
