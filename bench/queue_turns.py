"""
One turn of one contender: its worker is started, warmed up, given jobs at a steady pace, then a backlog, and stopped.

The backlog is put while the worker is frozen by SIGSTOP; it counts from the moment when it may go on until the last job
is settled, by whatever this contender has for that.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import msgspec

from bench.queue_contenders import LIMIT_S, Contender, Ours
from runner.records import JournalEntry

ROOT = Path(__file__).parents[1]
WARM_UP = 6
# No divisor of half a second, after which one of the contenders looks again.
EVERY_S = 0.071
STOP_S = 60.0
ALIVE_EVERY_S = 0.5
LAST_LINES = 15
STEPS = ("put_to_claim", "claim_to_journal", "to_grant", "to_staged", "to_starting", "to_begun")


class WorkerFailedError(Exception):
    """A worker did not do what it was given; the text has the last that it said."""


class Turn(msgspec.Struct, frozen=True):
    """
    What one contender did in one turn.

    Milliseconds from right before, and right behind, the call that put a job, to the begin of its process; the rate of
    the backlog; the share of jobs that were put before the last one had begun, so that the worker was not idle; the
    median of each step within the runner, where it was the runner.
    """

    before_put_ms: tuple[float, ...]
    after_put_ms: tuple[float, ...]
    jobs_a_second: float
    overtaken: float = 0.0
    steps_ms: dict[str, float] = {}

    @property
    def dispatched(self) -> int:
        """How many jobs the times are of."""
        return len(self.before_put_ms)


class Size(msgspec.Struct, frozen=True):
    """How many jobs a turn has: at a steady pace, and in the backlog."""

    steady: int
    backlog: int


async def one_turn(contender: Contender, size: Size, name: str) -> Turn:
    """
    Let a contender have its turn; its jobs' ids begin with ``name``.

    Raises:
        WorkerFailedError: a job did not begin, or was not settled, in two minutes.
        RanTwiceError: a job began twice.
    """
    log = contender.directory / "said"
    await contender.open()
    try:
        with running(contender, log) as process:
            try:
                return await _while_it_runs(process, _measured(contender, size, name, process))
            except (TimeoutError, ChildProcessError) as cause:
                last = "\n".join(log.read_text().splitlines()[-LAST_LINES:])
                raise WorkerFailedError(f"{contender.place.kind}, {contender.who}: {last}") from cause
    finally:
        await contender.close()
        contender.arrivals.check()


async def _while_it_runs(process: subprocess.Popen[bytes], work: Coroutine[None, None, Turn]) -> Turn:
    turn = asyncio.ensure_future(work)
    try:
        while not turn.done():
            await asyncio.wait({turn}, timeout=ALIVE_EVERY_S)
            if process.poll() is not None:
                raise ChildProcessError(process.returncode)
        return await turn
    finally:
        turn.cancel()


async def _measured(contender: Contender, size: Size, name: str, process: subprocess.Popen[bytes]) -> Turn:
    await steady(contender, numbered(f"{name}-first", WARM_UP))
    puts = await steady(contender, ids := numbered(f"{name}-steady", size.steady))
    begun_at = contender.arrivals.begun_at
    steps_ms = steps_of(await contender.entries(ids), begun_at) if isinstance(contender, Ours) else {}
    rate = await backlog(contender, numbered(f"{name}-backlog", size.backlog), process.pid)
    return Turn(
        tuple((begun_at[put.job_id] - put.began_at) * 1000 for put in puts),
        tuple((begun_at[put.job_id] - put.ended_at) * 1000 for put in puts),
        rate,
        sum(begun_at[last.job_id] > put.began_at for last, put in pairwise(puts)) / len(puts),
        steps_ms,
    )


class Put(msgspec.Struct, frozen=True):
    """When a job was put, in epoch seconds."""

    job_id: str
    began_at: float
    ended_at: float


async def steady(contender: Contender, ids: Sequence[str]) -> list[Put]:
    """Put one job after another at a steady pace, and wait for the end of all."""
    loop, puts = asyncio.get_running_loop(), list[Put]()
    first_at = loop.time()
    for number, job_id in enumerate(ids):
        await asyncio.sleep(first_at + number * EVERY_S - loop.time())
        began_at = time.time()
        await contender.put(job_id)
        puts.append(Put(job_id, began_at, time.time()))
    await settled(contender, ids)
    return puts


async def backlog(contender: Contender, ids: Sequence[str], pid: int) -> float:
    """Return jobs a second."""
    with frozen(pid):
        for job_id in ids:
            await contender.put(job_id)
    began_at = time.time()
    await settled(contender, ids)
    return len(ids) / (time.time() - began_at)


async def settled(contender: Contender, ids: Sequence[str]) -> None:
    await contender.arrivals.until_begun(ids, LIMIT_S)
    async with asyncio.timeout(LIMIT_S):
        await contender.until_settled(ids)


def numbered(name: str, count: int) -> list[str]:
    return [f"{name}-{number}" for number in range(count)]


def steps_of(entries: Mapping[str, JournalEntry], begun_at: Mapping[str, float]) -> dict[str, float]:
    """Return the median milliseconds of each step by the times in the journal."""
    steps = [_steps(entry, begun_at[job_id]) for job_id, entry in entries.items()]
    return {name: round(statistics.median(each), 2) for name, each in zip(STEPS, zip(*steps, strict=True), strict=True)}


def _steps(entry: JournalEntry, begun_at: float) -> list[float]:
    claim = entry.claimed.claim
    assert entry.granted, entry.key
    assert entry.staged, entry.key
    assert entry.starting, entry.key
    records_at = [entry.claimed.at, entry.granted.at, entry.staged.at, entry.starting.at]
    times = [claim.submitted_at, claim.claimed_at, *records_at, begun_at]
    return [(later - earlier) * 1000 for earlier, later in pairwise(times)]


@contextmanager
def running(contender: Contender, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a worker, and end it as its users do."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RUNNER_")}
    environ |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **contender.environ}
    with (
        log.open("ab") as said,
        subprocess.Popen(contender.command, stdout=said, stderr=said, env=environ, start_new_session=True) as process,
    ):
        try:
            yield process
            process.terminate()
            process.wait(STOP_S)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a worker and its children, and let them go on."""
    os.killpg(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(pid, signal.SIGCONT)
