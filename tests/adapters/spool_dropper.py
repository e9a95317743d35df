"""Writes numbered lines to a spool whose middle it drops again and again, until it is killed."""

from __future__ import annotations

import asyncio
import time

from adapters.spool import FileSpool
from tests.adapters.spool_writer import KEY
from tests.kill_rounds import acknowledge


def write(directory: str) -> None:
    """Append behind what stands there, and say how many bytes were written after each append returned."""
    asyncio.run(_write(directory))


async def _write(directory: str) -> None:
    spool = FileSpool(f"{directory}/spool", time.time_ns, segment_bytes=3000)
    written = (await spool.bytes_written(KEY, 1))["stdout"]
    while True:
        for _ in range(20):
            await spool.append(KEY, 1, "stdout", b"%099d\n" % (written // 100))
            written += 100
            acknowledge(str(written))
        await spool.drop_middle(KEY, 1, 5_000, 10_000)
