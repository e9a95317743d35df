"""What the suite for result backends needs of each service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from adapters.results.folder import FolderResults
from runner.ports import Results
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
