"""What the suite for result backends needs of each service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from adapters.results.folder import FolderResults
from runner.job import Key, make_key
from runner.ports import LogLine, Position, Results
from runner.receipt import Event, Receipt
from tests.conformance.queue_harness import BOX


class ResultsHarness(Protocol):
    """One service under test. What one opening wrote is there for the next."""

    def open(self, box: str = BOX) -> AbstractAsyncContextManager[Results]:
        """Open it as the runner of this box; empty for a client."""
        ...

    def damage(self, url: str) -> None:
        """Change a byte of a stored upload."""
        ...

    def content(self, url: str) -> bytes:
        """Return what stands at the URL of an archive, as a client that has it would."""
        ...

    def stands(self, url: str) -> bool:
        """Tell whether anything stands at the URL of an archive."""
        ...


class FolderResultsHarness:
    """A directory that is not there at first."""

    def __init__(self, directory: Path) -> None:
        self._root = directory / "queue" / "results"

    @asynccontextmanager
    async def open(self, box: str = BOX) -> AsyncIterator[Results]:
        results = FolderResults(str(self._root), box_id=box)
        try:
            yield results
        finally:
            await results.close()

    def damage(self, url: str) -> None:
        path = self._root / "uploads" / url.rpartition("/")[2]
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content))

    def content(self, url: str) -> bytes:
        return Path(unquote(urlsplit(url).path)).read_bytes()

    def stands(self, url: str) -> bool:
        return Path(unquote(urlsplit(url).path)).exists()


AT = 1_700_000_000.0
LONG_S = 20.0


def key_of(job_id: str, submission: str = "first") -> Key:
    return make_key("queue", job_id, submission)


KEY = key_of("a")
Told = LogLine | Event


def line(sequence: int, *, attempt: int = 1, stream: str = "stdout", data: bytes = b"") -> LogLine:
    """Make the record of one second: the sequence counts seconds."""
    at_ns = int((AT + 1000 * attempt + sequence) * 1e9)
    return LogLine(attempt, sequence, at_ns, stream, data or b"%d.%d\n" % (attempt, sequence))


def event(state: str, at: float, *, attempt: int = 1, key: Key = KEY, job_id: str = "a", reason: str = "") -> Event:
    """Make an event so many seconds after its attempt began."""
    return Event(key, job_id, AT + 1000 * attempt + at, state, attempt, end_reason=reason or None)


def end(at: float, *, attempt: int = 1, key: Key = KEY, job_id: str = "a", reason: str = "succeeded") -> Event:
    return event("ended", at, attempt=attempt, key=key, job_id=job_id, reason=reason)


def receipt(job_id: str = "a", *, key: Key = KEY, attempt: int = 1, state: str = "ended", at: float = AT) -> Receipt:
    return Receipt(
        id=job_id,
        name="digits",
        user="ada",
        queue="train",
        key=key,
        attempt=attempt,
        state=state,
        end_reason="succeeded" if state == "ended" else None,
        exit_code=0,
        submitted_at=at - 10,
        ended_at=at,
        box="box-1",
        message="it ran",
    )


async def told(results: Results, job_id: str = "a", position: Position | None = None) -> list[Told]:
    """Read all that stands."""
    return [item async for item in results.tail(job_id, position or Position(), follow=False)]


async def followed(results: Results, job_id: str = "a", position: Position | None = None) -> list[Told]:
    """Follow to the end."""
    async with asyncio.timeout(LONG_S):
        return [item async for item in results.tail(job_id, position or Position(), follow=True)]


def sequences(items: Sequence[Told]) -> list[tuple[int, int]]:
    return [(item.attempt, item.sequence) for item in items if isinstance(item, LogLine)]
