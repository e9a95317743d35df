"""Where others read what became of a job: result backends, and the sinks that logs go to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import msgspec

from runner.credential import Credential
from runner.job import Key
from runner.receipt import BoxBeat, Event, JobRow, Receipt


class LogLine(msgspec.Struct, frozen=True):
    """A run of bytes that a job wrote to one stream, at a position. ``at_ns`` is epoch nanoseconds."""

    attempt: int
    sequence: int
    at_ns: int
    stream: str
    data: bytes

    @property
    def next(self) -> Position:
        """The place of the record that follows."""
        return Position(self.attempt, self.sequence + 1)


class Gap(msgspec.Struct, frozen=True):
    """
    What is missing of a job's output at a place in its log, as JSON the bytes of a record of stream ``gap``.

    ``stream`` is ``stdout``, ``stderr``, or "" for both; None where nobody can know how much it is. ``resumes_at`` is
    set where the source of that stream was cut off: the byte of it that comes next.
    """

    stream: str = ""
    bytes: int | None = None
    lines: int | None = None
    reason: str = ""
    resumes_at: int | None = None


class Position(msgspec.Struct, frozen=True, order=True):
    """A place in a job's log: the next record wanted."""

    attempt: int = 1
    sequence: int = 0


class Cursor(msgspec.Struct, frozen=True):
    """How far one sink got with one job: the next record wanted, and whether it has the job's end, too."""

    position: Position = Position()
    done: bool = False


class Results(Protocol):
    """A queue's result backend: where others read what became of its jobs. Keyed by job key, found by id."""

    async def append(self, key: Key, job_id: str, events: Sequence[Event], lines: Sequence[LogLine]) -> None:
        """Add events and log records in order; a record that stands already (same position) is not added twice."""
        ...

    def tail(self, job_id: str, position: Position, *, follow: bool) -> AsyncIterator[LogLine | Event]:
        """
        Yield records and events of the newest job of this id from ``position``; with ``follow`` until it ended for
        good.

        An unknown id yields nothing without ``follow``; with it, waits for the job to appear.
        """
        ...

    async def put_receipt(self, receipt: Receipt) -> None:
        """
        Store the receipt of one attempt.

        Raises:
            AlreadyStored: one of this key and attempt stands.
        """
        ...

    async def put_log(self, key: Key, attempt: int, path: str) -> str:
        """Store the archive of an attempt's log from a local file; return its URL. Putting it again replaces it."""
        ...

    async def get_log(self, url: str, path: str) -> None:
        """
        Copy the archive at a URL that ``put_log`` returned to a local file.

        Raises:
            Refused: there is none, or it is damaged.
        """
        ...

    async def get(self, job_id: str) -> Receipt | None:
        """Return the newest receipt of the newest job of this id or key."""
        ...

    async def list(self, *, ended: bool) -> tuple[JobRow, ...]:
        """List jobs, newest first; without ``ended`` only those that have not."""
        ...

    async def put_upload(self, path: str) -> str:
        """Store a packed directory under its content's digest; return the URL (``upload:sha256/…``) for an input."""
        ...

    async def get_upload(self, url: str, path: str) -> None:
        """
        Copy an upload to a local file.

        Raises:
            Refused: there is no such upload.
        """
        ...

    async def clear_stop(self, job_id: str) -> None:
        """Take a stop mark away; no error where there is none."""
        ...

    async def request_stop(self, job_id: str) -> None:
        """Set a stop mark for a job that may be on any box; setting it twice is no error."""
        ...

    async def stops(self) -> frozenset[str]:
        """Return the ids that carry a stop mark."""
        ...

    async def beat(self, beat: BoxBeat) -> None:
        """Replace this box's sign of life."""
        ...

    async def prune(self, before: float) -> int:
        """
        Delete what belongs to jobs that ended before this epoch second, and uploads unused since; return how many.
        """
        ...

    async def beats(self) -> tuple[BoxBeat, ...]:
        """Return the last sign of life of each box that gave one within a day, by box."""
        ...

    async def change(self, credential: Credential) -> None:
        """Go on with the secrets of another credential for the same service."""
        ...

    async def close(self) -> None:
        """Release what is open."""
        ...


class End(msgspec.Struct, frozen=True):
    """The one end of a job that a sink gets."""

    event: Event


class SinkTraits(msgspec.Struct, frozen=True):
    """
    What the fan-out must know of a sink.

    ``coalesces``: where it is behind, of a line that was overwritten with carriage returns it gets the last state only.
    ``lag_max_bytes``: further behind than that, it goes on near the end, after a record of stream ``gap``; None: never.
    """

    coalesces: bool = False
    lag_max_bytes: int | None = None


class Sink(Protocol):
    """Where logs go. May be slow, may fail; never blocks a job."""

    @property
    def traits(self) -> SinkTraits:
        """Say how this sink wants to be fed."""
        ...

    async def open(self, key: Key, job_id: str) -> Position | None:
        """
        Begin a job, or go on with it; return the first position this sink does not have, None where it cannot tell.
        """
        ...

    async def write(self, key: Key, job_id: str, events: Sequence[Event], lines: Sequence[LogLine]) -> None:
        """Take events and records in order; what it has already is not an error."""
        ...

    async def close(self, key: Key, job_id: str, end: End) -> None:
        """Take the end; idempotent."""
        ...

    async def release(self) -> None:
        """Let go of what is open for all jobs; nothing is asked of it afterwards."""
        ...
