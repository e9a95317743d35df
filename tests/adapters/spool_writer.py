"""Writes a stream that never ends to a spool until it is killed; see ``tests/kill_rounds.py``."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator

from adapters.spool import FileSpool
from tests.conformance.records import key_of
from tests.kill_rounds import acknowledge

KEY = key_of("killed")
_SIZES = (0, 10, 1000, 40, 300_000, 3, 200, 0, 70, 12_000, 1)


def pieces() -> Iterator[bytes]:
    """Yield what is written, each piece different from every other, some small and some of several records."""
    for number in itertools.count():
        yield b"<%d>" % number + b"%d" % (number % 10) * _SIZES[number % len(_SIZES)]


def write(directory: str) -> None:
    """Append behind what stands there, and say how many bytes must stand there after each append returned."""
    asyncio.run(_write(directory))


async def _write(directory: str) -> None:
    spool, offset = FileSpool(f"{directory}/spool", time.time_ns), 0
    standing = (await spool.bytes_written(KEY, 1))["stdout"]
    for piece in pieces():
        missing = piece[max(0, standing - offset) :]
        offset += len(piece)
        if missing:
            await spool.append(KEY, 1, "stdout", missing)
            acknowledge(str(offset))
