"""A box's own disk: credentials, spools, the journal; and what may be asked of a running runner."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from runner.credential import CredentialFile
from runner.job import Key
from runner.ports.results import Cursor, LogLine, Position
from runner.receipt import GpuTable, SourceRow
from runner.records import JournalEntry, JournalRecord


class Credentials(Protocol):
    """The watched directory. The truth is ``scan``; ``changes`` only hints at when to do it."""

    async def scan(self) -> tuple[CredentialFile, ...]:
        """Read every file, sorted by name; one that cannot be read or used is in the list with its reason."""
        ...

    def changes(self) -> AsyncIterator[None]:
        """Yield whenever something may have changed, and every few seconds without a reason."""
        ...


class SpoolSeal(msgspec.Struct, frozen=True):
    """
    What a sealed spool holds of stdout and stderr: lines (the last one of each without newline counts, whatever came
    after it from the other), bytes, SHA-256 of the bytes in spool order; ``archive`` is the local path of the archive,
    ``gaps`` counts what is known to be missing.
    """

    lines: int
    bytes: int
    sha256: str
    archive: str
    gaps: int = 0


class Spool(Protocol):
    """
    Logs on disk: framed records per attempt, appended by one writer at a time, readable by many.

    Survives a kill at any byte: a torn record is cut off when the attempt is opened for appending again.
    """

    async def append(self, key: Key, attempt: int, stream: str, data: bytes) -> None:
        """
        Add bytes to a stream (``stdout``, ``stderr``, ``runner``; ``event`` holds state changes and ``gap`` what is
        missing, a :class:`Gap`, both as JSON) and wake whoever awaits ``flag`` or ``news``.

        Raises:
            OutOfSpace: the disk is full.
        """
        ...

    async def bytes_written(self, key: Key, attempt: int) -> dict[str, int]:
        """
        Count the bytes of each stream that stand in an attempt's spool, or that a gap appended there says are missing
        of that stream: so many are over, and reading goes on behind them. One that says where its source resumes sets
        the count to that.
        """
        ...

    async def read(self, key: Key, position: Position, limit_bytes: int = 1 << 20) -> tuple[LogLine, ...]:
        """
        Return records from ``position``, over all attempts on this box, at most about ``limit_bytes``; () at the end.
        """
        ...

    async def flag(self, key: Key) -> None:
        """Return when something was appended to any attempt of this key, or one was sealed, after this call began."""
        ...

    async def news(self) -> frozenset[Key]:
        """
        Wait until something was appended or sealed since the last call, and return the keys; one caller at a time.
        """
        ...

    async def behind(self, key: Key, position: Position) -> int:
        """Tell about how many bytes stand from ``position`` on, over all attempts on this box."""
        ...

    async def near_end(self, key: Key, size_bytes: int) -> Position:
        """Return the first position behind which at most about so many bytes stand."""
        ...

    async def cursor(self, key: Key, sink: str) -> Cursor | None:
        """Return how far this sink got, also in an earlier life; None where it never began."""
        ...

    async def keep_cursor(self, key: Key, sink: str, cursor: Cursor) -> None:
        """Remember how far this sink got; survives a kill. Nothing happens where the job has no spool any more."""
        ...

    async def disk_bytes(self, key: Key) -> int:
        """Measure what all of a key's spools take on the disk."""
        ...

    async def drop_middle(self, key: Key, attempt: int, head_bytes: int, tail_bytes: int) -> int:
        """
        Delete records between about the first ``head_bytes`` and the last ``tail_bytes`` of an attempt, if there are.

        Sequences and ``bytes_written`` stay as they were; readers find a record of stream ``gap`` in their place, which
        counts them. Returns how many bytes this call deleted.
        """
        ...

    async def shed(self, key: Key) -> None:
        """
        Delete what a key's sealed attempts take beside their archives, which ``read`` reads from then on. Idempotent.

        Cursors stay, so that nobody is told again.
        """
        ...

    async def unshed(self) -> tuple[Key, ...]:
        """Return the keys that have more than archives, in no order: their sinks may miss something."""
        ...

    async def seal(self, key: Key, attempt: int) -> SpoolSeal:
        """Close an attempt's spool for good and write its archive beside it; idempotent."""
        ...

    async def sealed(self, key: Key) -> bool:
        """Tell whether every attempt of this key on this box is sealed."""
        ...

    async def remove(self, key: Key) -> None:
        """Delete all spools of a key; idempotent."""
        ...

    async def prune(self, before: float, keep: frozenset[Key]) -> int:
        """Delete spools last written before this epoch second but for ``keep``; return how many."""
        ...


class Journal(Protocol):
    """
    What is in flight, and what ended until retention drops it. One writer; others may read while it is open or closed.

    ``append`` returns when the record survives a kill of the process.
    """

    async def append(self, key: Key, record: JournalRecord) -> None:
        """
        Write a record; the newest of each kind counts. A ``ClaimRecord`` of a later attempt, or after the entry was
        settled, clears all but the fault count; of the same attempt in flight it only renews token and claim.

        Raises:
            OutOfSpace: the disk is full.
        """
        ...

    async def entry(self, key: Key) -> JournalEntry | None:
        """Return one entry."""
        ...

    async def in_flight(self) -> tuple[JournalEntry, ...]:
        """Return all entries without ``settled`` that have not lost their claim, oldest claim first."""
        ...

    async def find(self, job_id: str) -> JournalEntry | None:
        """Return the newest entry whose job has this id, or whose key this is."""
        ...

    async def list(self, *, limit: int, ended: bool) -> tuple[JournalEntry, ...]:
        """List entries, newest claim first, bodies left out; without ``ended`` only those in flight."""
        ...

    async def prune(self, before: float) -> int:
        """Delete settled entries that ended before this epoch second; return how many."""
        ...

    async def close(self) -> None:
        """Write out and close."""
        ...


class Control(Protocol):
    """What the control socket may ask of a running runner."""

    async def cancel(self, job_id: str) -> str:
        """End a job wherever it is; return one sentence that says which of the ways it took. Twice is no error."""
        ...

    async def sources(self) -> tuple[SourceRow, ...]:
        """Return the rows of ``runner sources``."""
        ...

    async def gpus(self) -> GpuTable:
        """Return the table of ``runner gpus``."""
        ...

    def stop(self, *, leave: bool, grace_s: float | None) -> bool:
        """Begin a drain, or leave: True; again hurries what was begun: False."""
        ...

    def drains(self) -> bool:
        """Tell whether either was begun: no job is taken up any more."""
        ...


class ServiceManager(Protocol):
    """
    Who started the process and watches over it.

    ``watchdog_s``: without a sign of life for so long it ends the process; None: it waits for none.
    """

    watchdog_s: float | None

    def tell(self, **facts: object) -> None:
        """Say how the service stands: ``ready=1``, ``watchdog=1``, ``stopping=1``, ``status=...``; never waits."""
        ...


class Box(msgspec.Struct, frozen=True):
    """
    A machine as the runner may use it: id (a UUID), core numbers, bytes of memory and disk for jobs.

    ``spare`` are those of the cores that stay the runner's while a job is alone: one with all its threads, () where a
    job would have none then.
    """

    id: str
    cores: tuple[int, ...]
    memory: int
    disk: int
    hostname: str = ""
    spare: tuple[int, ...] = ()
