"""
What jobs say as they begin, and when: each writes its id into a FIFO that is read here, the same for all contenders.

A bare consumer writes ``=`` and the id besides, when a message is acknowledged.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from pathlib import Path

READ_BYTES = 65_536
MODE = 0o622
"""Each job of a runner that is root has a user of its own."""


class RanTwiceError(Exception):
    """One job began twice, so that what was measured is something else."""


class Arrivals:
    """Reads the FIFO, which is made in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.fifo = str(directory / "begun")
        os.mkfifo(self.fifo)
        os.chmod(self.fifo, MODE)
        # Opened for writing, too, so that it does not end when nobody writes.
        self._descriptor = os.open(self.fifo, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._rest = b""
        self._more = asyncio.Event()
        # Epoch seconds by job.
        self.begun_at: dict[str, float] = {}
        self.done: set[str] = set()
        self._twice: list[str] = []
        asyncio.get_running_loop().add_reader(self._descriptor, self._read)

    def command(self, job_id: str) -> tuple[str, ...]:
        """Return a command that does nothing else."""
        return ("sh", "-c", f"echo {job_id} > {self.fifo}")

    async def until_begun(self, ids: Iterable[str], limit_s: float) -> None:
        """Return once all these jobs began; raises ``TimeoutError``."""
        await self._until(self.begun_at.keys(), set(ids), limit_s)

    async def until_done(self, ids: Iterable[str], limit_s: float) -> None:
        """Return once all these are said to be done; raises ``TimeoutError``."""
        await self._until(self.done, set(ids), limit_s)

    def check(self) -> None:
        """
        Look whether each job began once.

        Raises:
            RanTwiceError: one did not.
        """
        if self._twice:
            raise RanTwiceError(", ".join(self._twice))

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)

    async def _until(self, seen: Iterable[str], wanted: set[str], limit_s: float) -> None:
        async with asyncio.timeout(limit_s):
            while not wanted.issubset(seen):
                self._more.clear()
                await self._more.wait()

    def _read(self) -> None:
        now = time.time()
        *lines, self._rest = (self._rest + os.read(self._descriptor, READ_BYTES)).split(b"\n")
        for line in map(bytes.decode, lines):
            if line.startswith("="):
                self.done.add(line[1:])
                continue
            if line in self.begun_at:
                self._twice.append(line)
            self.begun_at[line] = now
        self._more.set()
