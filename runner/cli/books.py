"""
Where commands read what became of jobs.

On the box: its journal, its own queue and that queue's result backend. For a named queue: it and its result backend.
"""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import msgspec

from runner.cli import paths
from runner.cli.line import Standing, WaitingJob
from runner.cli.output import clock
from runner.cli.rows import ending, last_attempt, receipt_of, row_of, why_of
from runner.cli.target import no_results
from runner.errors import RunnerError
from runner.leaving import GIVEN_BACK
from runner.receipt import Event, JobRow, Receipt, Why

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from runner.cli.line import Line
    from runner.job import Key
    from runner.ports import Results
    from runner.records import JournalEntry

ROWS_MAX = 10_000
ALIVE_S = 30.0
"""A box that gave no sign of life for so long is not counted on: three beats are missing."""
ANSWER_S = 3.0
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


class QueueBook:
    """A queue and its result backend, as far as it has them."""

    def __init__(self, line: Line, results: Results | None, *, tell_boxes: bool = True) -> None:
        """Keep both; ``tell_boxes``: why a job waits is also a matter of which boxes are there."""
        self._line = line
        self._results = results
        self._tell_boxes = tell_boxes

    async def waiting(self) -> tuple[WaitingJob, ...]:
        """List the jobs that no box holds, newest first."""
        return (await self._standing()).waiting[::-1]

    async def rows(self, *, ended: bool) -> tuple[JobRow, ...]:
        known = await self._results.list(ended=ended) if self._results is not None else ()
        standing = await self._standing()
        told = {row.id for row in known if row.state != "ended"}
        untold = [job.row for job in standing.claimed if job.row.id not in told and not await self._ended(job)]
        return (*(job.row for job in standing.waiting[::-1] if job.row.id not in told), *untold, *known)

    async def receipt(self, job_id: str) -> Receipt | None:
        standing, stored = await self._standing(), await self._stored(job_id)
        if job := _newer(standing.waiting[::-1], job_id, stored):
            return _receipt_so_far(job.row, job.key)
        if told := await self._told(job_id) if stored is None else None:
            return told
        if job := _newer(standing.claimed, job_id, stored):
            return _receipt_so_far(job.row, job.key)
        return stored or await self._stored(job_id)  # it may have ended while this looked elsewhere

    async def why(self, job_id: str) -> Why | None:
        receipt = await self.receipt(job_id)
        if receipt is None:
            return None
        if receipt.state == "ended":
            return Why(receipt.id, "ended", ending(receipt), receipt.ended_at or 0.0)
        standing = await self._standing()
        if waits := next(iter(standing.named(receipt.id)), None):
            sentence = _waiting(standing, waits) + (last_attempt(receipt) or await self._given_back(waits.key))
            sentence += await self._boxes() if waits.due_at is None else ""
            return Why(receipt.id, "waiting", sentence, waits.row.submitted_at or 0.0)
        event = await newest_event(self._results, job_id)
        if event is None:
            return Why(receipt.id, receipt.state, CLAIMED, receipt.submitted_at or 0.0)
        sentence = event.message or f"it is {event.state}"
        sentence += await self._boxes() if receipt.state == "waiting" and not receipt.box else ""
        return Why(receipt.id, event.state, sentence, event.at)

    async def _standing(self) -> Standing:
        """Look at what stands in the queue; a service that shows nothing and keeps no account either knows nothing."""
        found = await self._line.jobs()
        if found is None and self._results is None:
            raise no_results(self._line.name)
        return found or Standing()

    async def _stored(self, job_id: str) -> Receipt | None:
        return await self._results.get(job_id) if self._results is not None else None

    async def _ended(self, job: WaitingJob) -> bool:
        receipt = await self._stored(job.key)
        return receipt is not None and receipt.state == "ended"

    async def _told(self, job_id: str) -> Receipt | None:
        """Return what was told of a job that has no receipt yet."""
        rows = await self._results.list(ended=False) if self._results is not None else ()
        by_id = {row.id: row for row in rows}
        if job_id in by_id:
            return _receipt_so_far(by_id[job_id], "")
        event = await newest_event(self._results, job_id) if rows else None  # it may be a key
        return _receipt_so_far(by_id[event.id], event.key) if event is not None and event.id in by_id else None

    async def _given_back(self, key: Key) -> str:
        """Say why the box that had a job last did not try it."""
        event = await newest_event(self._results, key)
        return f"; {event.message}" if event is not None and event.message.startswith(GIVEN_BACK) else ""

    async def _boxes(self) -> str:
        """Say which boxes might take a job that may be taken now."""
        if self._results is None or not self._tell_boxes:
            return ""
        now = time.time()
        alive = sum(now - beat.at < ALIVE_S for beat in await self._results.beats())
        if not alive:
            return f"; no box has given a sign of life within {ALIVE_S:.0f} s"
        return "; the one box has not taken it yet" if alive == 1 else f"; none of {alive} boxes has taken it yet"


async def newest_event(results: Results | None, job_id: str) -> Event | None:
    """Return what was told last of a job, by its id or key."""
    from runner.ports import Position

    newest = None
    if results is not None:
        async for told in results.tail(job_id, Position(), follow=False):
            newest = told if isinstance(told, Event) else newest
    return newest


def _newer(jobs: Sequence[WaitingJob], job_id: str, stored: Receipt | None) -> WaitingJob | None:
    """Return the job of this id or key that is not the one whose receipt is stored."""
    found = next((job for job in jobs if job_id in {job.row.id, job.key}), None)
    return None if found is None or (stored is not None and stored.key == found.key) else found


def _receipt_so_far(row: JobRow, key: str) -> Receipt:
    return Receipt(**{name: getattr(row, name) for name in JobRow.__struct_fields__}, key=key)


def _waiting(standing: Standing, job: WaitingJob) -> str:
    if job.due_at is not None:
        return f"it waits in {job.row.queue} for its next attempt at {clock(job.due_at)}"
    place = standing.place(job.key)
    return f"{ordinal(place)} of {max(place, standing.depth)} waiting in {job.row.queue}"


def ordinal(number: int) -> str:
    """Write 1st, 2nd, 3rd, 4th."""
    ending_of = {1: "st", 2: "nd", 3: "rd"}
    return f"{number}{'th' if number % 100 in {11, 12, 13} else ending_of.get(number % 10, 'th')}"


def went_back(entry: JournalEntry) -> bool:
    """Tell whether the job waits in its queue again, for its next attempt or for another box."""
    return entry.settled is not None and entry.state != "ended"


class BoxBook:
    """The box's journal first, then its own queue: what waits there, and what its result backend still knows."""

    def __init__(self, journal: Journal, queue: QueueBook, *, box: str, still: Callable[[], str]) -> None:
        """Keep all; ``still`` tells why the box takes up no job now, "" where it does."""
        self._journal = journal
        self._queue = queue
        self._box = box
        self._still = still

    async def rows(self, *, ended: bool) -> tuple[JobRow, ...]:
        entries = await self._journal.list(limit=ROWS_MAX, ended=ended)
        waiting = {job.key: await self._with_attempt(job) for job in await self._queue.waiting()}
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
        if why is None or why.state == "ended" or not (still := self._still()):
            return why
        return msgspec.structs.replace(why, sentence=f"{why.sentence}; {still}")


@asynccontextmanager
async def open_book(args: argparse.Namespace) -> AsyncIterator[Book]:
    """Open what a command reads: the named queue, else this box, which may be one that never ran."""
    from runner.cli.target import open_view

    async with open_view(args) as view:
        if not view.place.own:
            yield QueueBook(view.line, view.backend)
            return
        state = paths.state_dir(args)
        queue = QueueBook(view.line, view.backend, tell_boxes=False)
        async with open_journal(state) as journal:
            yield BoxBook(journal, queue, box=box_id(state), still=lambda: _still(state))


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


def _still(state: Path) -> str:
    """Say why a box takes up no job now, "" where it does or where its runner is too busy to tell."""
    from adapters.http.client import ControlClient

    if not runner_answers(state):
        return f"no runner is running on this box: start one with: {paths.start_command(state)}"
    try:
        drains = ControlClient(paths.control_socket(state), ANSWER_S).health().drains
    except RunnerError:
        return ""
    return "the runner on this box drains, and takes up no job" if drains else ""


def runner_answers(state: Path) -> bool:
    """Tell whether a runner runs on a state directory."""
    from adapters.http.wire import connected

    try:
        connected(paths.control_socket(state), 1.0).close()
    except OSError:
        return False
    return True
