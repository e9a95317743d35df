"""A job's log as it grows, from the spool, until the job ended for good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

import msgspec

from runner.job import Key
from runner.ports import Journal, LogLine, Position, Spool
from runner.receipt import Event

LOOK_AGAIN_S = 1.0
"""How long an end of the job that adds nothing to its log may stay unseen."""
SIGN_OF_LIFE_S = 10.0
BATCH_BYTES = 256 << 10
"""About so much of a log is in memory for a reader that does not read."""


async def batches(
    journal: Journal, spool: Spool, key: Key, position: Position, *, follow: bool
) -> AsyncGenerator[tuple[LogLine, ...], None]:
    """
    Yield the records from ``position``; with ``follow`` to the end of the job, or until another box has it, and () as
    a sign of life.
    """
    clock = asyncio.get_running_loop().time
    told_at = clock()
    while True:
        is_over = not follow or await _is_over(journal, key)
        lines = await spool.read(key, position, BATCH_BYTES)
        if lines:
            yield lines
            position, told_at = lines[-1].next, clock()
            continue
        if is_over:
            return
        if clock() - told_at > SIGN_OF_LIFE_S:
            told_at = clock()
            yield ()
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_AGAIN_S):
                await spool.flag(key)


async def _is_over(journal: Journal, key: Key) -> bool:
    entry = await journal.entry(key)
    return entry is None or entry.state in {"ended", "lost"}


def told_by(line: LogLine) -> LogLine | Event:
    """Return the state change that stands in stream ``event``, else the record itself."""
    if line.stream == "event":
        with suppress(msgspec.DecodeError):
            return msgspec.json.decode(line.data, type=Event)
    return line
