"""
Where commands read what became of jobs.

On the box: its journal, its own queue and that queue's result backend. For a named queue: it and its result backend.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from runner.cli import paths
from runner.cli.output import clock
from runner.cli.rows import ending, last_attempt, receipt_of, row_of, why_of
from runner.job import make_key
from runner.receipt import Event, JobRow, Receipt, Why

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator

    from adapters.queues.folder_peek import WaitingMessage
    from runner.job import Key
    from runner.ports import Delivery, Queue, Results
    from runner.records import JournalEntry

ROWS_MAX = 10_000
BODIES_MAX = 500
CLAIMED = "a box has claimed it, and has told no more yet"


class Book(Protocol):
    """What is known of jobs, by one source."""

    async def rows(self, *, ended: bool) -> tuple[JobRow, ...]:
        """List jobs, newest first; without ``ended`` only those that have not."""
        ...

    async def receipt(self, job_id: str) -> Receipt | None:
        """Return the account of a job by its id or key, as far as it goes; None where nothing is known."""
        ...

    async def why(self, job_id: str) -> Why | None:
        """Say what a job waits for, or how it ended; None where nothing is known."""
        ...


class Journal(Protocol):
    """The reading half of the journal."""

    async def find(self, job_id: str) -> JournalEntry | None: ...
    async def list(self, *, limit: int, ended: bool) -> tuple[JournalEntry, ...]: ...


class WaitingJob(msgspec.Struct, frozen=True):
    """A job that stands in a queue; ``due_at`` is set where it waits for its next attempt."""

    key: Key
    row: JobRow
    due_at: float | None


def waiting_jobs(root: Path, queue: str) -> tuple[WaitingJob, ...]:
    """List the jobs that wait in a folder queue and that no box holds, in its order."""
    from adapters.queues.folder_peek import waiting_messages

    return _jobs(root, queue, waiting_messages(str(root)))


def claimed_jobs(root: Path, queue: str) -> tuple[WaitingJob, ...]:
    """List the jobs that boxes have claimed in a folder queue, also those of which nothing was told yet."""
    from adapters.queues.folder_peek import claimed_messages

    return _jobs(root, queue, claimed_messages(str(root)))


def _jobs(root: Path, queue: str, messages: tuple[WaitingMessage, ...]) -> tuple[WaitingJob, ...]:
    """Name the jobs of messages; what each is called is read for the first 500."""
    from adapters.queues.folder_peek import queue_identity
    from adapters.wire.native import decode

    found, identity = [], queue_identity(str(root))
    for index, message in enumerate(messages):
        job = decode(message.body()).job if index < BODIES_MAX else None
        job_id = (job.id if job else message.job) or message.submission
        row = JobRow(job_id, queue=queue, submitted_at=message.enqueued_at)
        if job is not None:
            row = msgspec.structs.replace(row, name=job.name, user=job.user)
        found.append(WaitingJob(make_key(identity, job_id, message.submission), row, message.due_at))
    return tuple(found)


def job_of(queue: Queue, delivery: Delivery) -> WaitingJob:
    """Name the job of a message that this command claimed."""
    from adapters.wire.native import decode

    job = decode(delivery.body).job
    job_id = job.id or delivery.submission
    row = JobRow(job_id, queue=queue.name, name=job.name, user=job.user, submitted_at=delivery.enqueued_at)
    return WaitingJob(make_key(queue.identity, job_id, delivery.submission), row, None)


class QueueBook:
    """A queue and its result backend."""

    def __init__(self, root: Path, results: Results) -> None:
        """Keep both; nothing is opened."""
        self._root = root
        self._results = results

    def waiting(self) -> tuple[WaitingJob, ...]:
        """List the jobs that no box holds, newest first."""
        return waiting_jobs(self._root, self._root.name)[::-1]

    async def rows(self, *, ended: bool) -> tuple[JobRow, ...]:
        known = await self._results.list(ended=ended)
        told = {row.id for row in known if row.state != "ended"}
        untold = [job.row for job in self._claimed() if job.row.id not in told and not await self._ended(job)]
        return (*(job.row for job in self.waiting() if job.row.id not in told), *untold, *known)

    async def receipt(self, job_id: str) -> Receipt | None:
        stored = await self._results.get(job_id)
        if job := _newer(self.waiting(), job_id, stored):
            return _receipt_so_far(job.row, job.key)
        rows = await self._results.list(ended=False) if stored is None else ()
        if row := next((row for row in rows if row.id == job_id), None):
            return _receipt_so_far(row, "")
        if job := _newer(self._claimed(), job_id, stored):
            return _receipt_so_far(job.row, job.key)
        return stored or await self._results.get(job_id)  # it may have ended while this looked elsewhere

    def _claimed(self) -> tuple[WaitingJob, ...]:
        return claimed_jobs(self._root, self._root.name)

    async def _ended(self, job: WaitingJob) -> bool:
        receipt = await self._results.get(job.key)
        return receipt is not None and receipt.state == "ended"

    async def why(self, job_id: str) -> Why | None:
        receipt = await self.receipt(job_id)
        if receipt is None:
            return None
        if receipt.state == "ended":
            return Why(receipt.id, "ended", ending(receipt), receipt.ended_at or 0.0)
        waits = next((job for job in self.waiting() if job.row.id == receipt.id), None)
        if waits is not None:
            return Why(receipt.id, "waiting", _waiting(waits) + last_attempt(receipt), waits.row.submitted_at or 0.0)
        event = await self._newest_event(job_id)
        if event is None:
            return Why(receipt.id, receipt.state, CLAIMED, receipt.submitted_at or 0.0)
        return Why(receipt.id, event.state, event.message or f"it is {event.state}", event.at)

    async def _newest_event(self, job_id: str) -> Event | None:
        from runner.ports import Position

        newest = None
        async for told in self._results.tail(job_id, Position(), follow=False):
            newest = told if isinstance(told, Event) else newest
        return newest


def _newer(jobs: tuple[WaitingJob, ...], job_id: str, stored: Receipt | None) -> WaitingJob | None:
    """Return the job of this id or key that is not the one whose receipt is stored."""
    found = next((job for job in jobs if job_id in {job.row.id, job.key}), None)
    return None if found is None or (stored is not None and stored.key == found.key) else found


def _receipt_so_far(row: JobRow, key: str) -> Receipt:
    return Receipt(**{name: getattr(row, name) for name in JobRow.__struct_fields__}, key=key)


def _waiting(job: WaitingJob) -> str:
    if job.due_at is None:
        return f"it waits in {job.row.queue} for a box to take it"
    return f"it waits in {job.row.queue} for its next attempt at {clock(job.due_at)}"


def went_back(entry: JournalEntry) -> bool:
    """Tell whether the job waits in its queue again, for its next attempt or for another box."""
    return entry.settled is not None and entry.state != "ended"


class BoxBook:
    """The box's journal first, then its own queue: what waits there, and what its result backend still knows."""

    def __init__(self, journal: Journal, queue: QueueBook, *, box: str, start: str) -> None:
        """Keep all; ``start`` is what to type to start a runner on the box, "" where one answers."""
        self._journal = journal
        self._queue = queue
        self._box = box
        self._start = start

    async def rows(self, *, ended: bool) -> tuple[JobRow, ...]:
        entries = await self._journal.list(limit=ROWS_MAX, ended=ended)
        waiting = {job.key: await self._with_attempt(job) for job in self._queue.waiting()}
        held = {entry.key for entry in entries if entry.settled is None}
        known = [row_of(entry, self._box) for entry in entries if not went_back(entry)]
        others = await self._queue.rows(ended=True) if ended else ()
        ids = {row.id for row in known} | {row.id for row in waiting.values()}
        return (
            *(row for key, row in waiting.items() if key not in held),
            *known,
            *(row for row in others if row.id not in ids),
        )

    async def _with_attempt(self, job: WaitingJob) -> JobRow:
        """Count the attempts that this box knows of, where a job waits for its next one."""
        entry = await self._journal.find(job.key) if job.due_at is not None else None
        decision = entry.stored.decision if entry is not None and entry.stored is not None else None
        return job.row if decision is None else msgspec.structs.replace(job.row, attempt=decision.note.attempt)

    async def receipt(self, job_id: str) -> Receipt | None:
        entry = await self._journal.find(job_id)
        if entry is not None and not went_back(entry):
            return receipt_of(entry, self._box)
        elsewhere = await self._queue.receipt(job_id)
        return elsewhere or (receipt_of(entry, self._box) if entry is not None else None)

    async def why(self, job_id: str) -> Why | None:
        entry = await self._journal.find(job_id)
        why = await self._queue.why(job_id) if entry is None or went_back(entry) else None
        if why is None and entry is not None:
            why = why_of(entry)
        if why is None or why.state == "ended" or not self._start:
            return why
        sentence = f"{why.sentence}; no runner is running on this box: start one with: {self._start}"
        return msgspec.structs.replace(why, sentence=sentence)


@asynccontextmanager
async def open_book(args: argparse.Namespace) -> AsyncIterator[Book]:
    """Open what a command reads: the named queue, else this box, which may be one that never ran."""
    from runner.cli.target import existing_place, open_results

    place = existing_place(args)
    async with open_results(place) as results:
        queue = QueueBook(place.root, results)
        if not place.own:
            yield queue
            return
        state = paths.state_dir(args)
        start = "" if runner_answers(state) else paths.start_command(state)
        async with open_journal(state) as journal:
            yield BoxBook(journal, queue, box=box_id(state), start=start)


@asynccontextmanager
async def open_journal(state: Path) -> AsyncIterator[Journal]:
    """Open the box's journal for reading; one that was never written reads as empty."""
    from adapters.journal import JournalReader

    reader = JournalReader(str(paths.journal(state)))
    try:
        yield reader
    finally:
        await reader.close()


def box_id(state: Path) -> str:
    """Return the box's id, empty where it has none yet."""
    try:
        return (state / "box-id").read_text("ascii").strip()
    except (OSError, ValueError):
        return ""


def runner_answers(state: Path) -> bool:
    """Tell whether a runner runs on a state directory."""
    from adapters.http.wire import connected

    try:
        connected(paths.control_socket(state), 1.0).close()
    except OSError:
        return False
    return True
