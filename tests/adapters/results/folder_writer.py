"""Tells a result directory of one job after the other until it is killed; see ``tests/kill_rounds.py``."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

from adapters.files import write_whole
from adapters.results.folder import FolderResults
from runner.errors import AlreadyStored
from runner.job import Key
from runner.ports import LogLine
from runner.receipt import Event, Receipt
from tests.kill_rounds import acknowledge

LINES = 12
_SIZES = (0, 10, 100_000, 40, 3, 5000)


def key_of(number: int) -> Key:
    return Key(f"job-{number}.key")


def lines_of(number: int) -> list[LogLine]:
    """Return the whole log of a job, each record different from every other."""
    return [
        LogLine(1, sequence, number * 1_000_000_000 + sequence, "stdout", b"%d.%d " % (number, sequence) + b"x" * size)
        for sequence, size in zip(range(LINES), itertools.cycle(_SIZES), strict=False)
    ]


def end_of(number: int) -> Event:
    return Event(key_of(number), f"job-{number}", number + 1.0, "ended", end_reason="succeeded")


def write(directory: str) -> None:
    """Send every job from its beginning, as a runner does after a restart, and say what was taken."""
    asyncio.run(_write(Path(directory)))


async def _write(directory: Path) -> None:
    results = FolderResults(str(directory / "results"), box_id="box-1")
    done = directory / "done"
    for number in itertools.count(int(done.read_text()) if done.exists() else 0):
        lines, key, job_id = lines_of(number), key_of(number), f"job-{number}"
        for start in range(0, LINES, 3):
            await results.append(key, job_id, (), lines[start : start + 3])
            acknowledge(f"lines {number} {start + 3}")
        try:
            await results.put_receipt(Receipt(id=job_id, key=key, state="ended", message="x" * 3000))
            acknowledge(f"receipt {number}")
        except AlreadyStored:
            acknowledge(f"again {number}")
        await results.append(key, job_id, (end_of(number),), ())
        acknowledge(f"ended {number}")
        write_whole(str(done), b"%d" % number, durable=False)
