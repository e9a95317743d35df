"""Results in a real Redis, in a database of this process's own."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from adapters.results.redis import RedisResults
from runner.errors import Refused
from runner.ports import Results
from tests.conformance.queue_harness import BOX, QUEUE
from tests.conformance.redis_harness import connected, redis_url


class RedisResultsHarness:
    """A database that is empty at first."""

    def __init__(self, directory: Path) -> None:
        self.url = redis_url()

    @asynccontextmanager
    async def open(self, box: str = BOX) -> AsyncIterator[Results]:
        results = RedisResults(self.url, QUEUE, box_id=box)
        try:
            yield results
        finally:
            await results.close()

    def damage(self, url: str) -> None:
        name = f"{{runner:{QUEUE}}}:results:upload:{url.rpartition('/')[2]}"
        with connected(self.url) as database:
            stored: Any = database.hget(name, "0")
            piece = bytearray(stored)
            piece[len(piece) // 2] ^= 1
            database.hset(name, "0", bytes(piece))

    def content(self, url: str) -> bytes:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "archive"
            asyncio.run(self._fetch(url, str(path)))
            return path.read_bytes()

    def stands(self, url: str) -> bool:
        try:
            self.content(url)
        except Refused:
            return False
        return True

    async def _fetch(self, url: str, path: str) -> None:
        results = RedisResults(self.url, QUEUE)
        try:
            await results.get_log(url, path)
        finally:
            await results.close()
