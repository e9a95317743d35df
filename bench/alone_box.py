"""A real ``runner run`` on a directory of its own, that comes and goes: how jobs get in, and what became of them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec

from adapters.journal import JournalReader
from adapters.queues.folder import FolderBroker, FolderQueue
from bench.deletions import Deletions
from runner.job import EndReason
from runner.records import JournalEntry

CORES = frozenset(os.sched_getaffinity(0))
READY_S, LIMIT_S = 20.0, 120.0
NANO = 1e-9


class NotMeasuredError(Exception):
    """Something did not do what was to be measured."""


@contextmanager
def on(cores: frozenset[int]) -> Iterator[None]:
    """Let what is started meanwhile begin on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_s(pid: int) -> float:
    """Return the processor time that all threads of a process have used so far, to the nanosecond."""
    accounts = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(account.read_text().split()[0]) for account in accounts) * NANO


class RunningBox:
    """A runner that serves."""

    def __init__(self, pid: int, queue: FolderQueue, journal: JournalReader, settled: Deletions) -> None:
        self.pid = pid
        self._queue, self._journal, self._settled = queue, journal, settled
        self._put = 0

    async def put(self, *jobs: Mapping[str, object]) -> None:
        """Put jobs into its queue."""
        for job in jobs:
            await self._queue.put(msgspec.json.encode(job), job_id=str(job["id"]))
            self._put += 1

    async def begun(self, job_id: str) -> None:
        """Wait until a job's container is about to be made."""
        async with asyncio.timeout(LIMIT_S):
            while (entry := await self._journal.find(job_id)) is None or entry.starting is None:
                await asyncio.sleep(0.02)

    async def ended(self) -> None:
        """Wait until all are settled that were put."""
        await self._settled.until(self._put, LIMIT_S)

    async def entries(self, *job_ids: str) -> list[JournalEntry]:
        """
        Return what the journal says of jobs that are settled.

        Raises:
            NotMeasuredError: one did not succeed.
        """
        found = [await self._journal.find(job_id) for job_id in job_ids]
        for job_id, entry in zip(job_ids, found, strict=True):
            receipt = entry.stored.receipt if entry and entry.stored else None
            if receipt is None or receipt.end_reason != EndReason.SUCCEEDED:
                raise NotMeasuredError(f"{job_id}: {receipt.message if receipt else 'no receipt'}")
        return [entry for entry in found if entry is not None]


@asynccontextmanager
async def running(home: Path, options: Sequence[str]) -> AsyncIterator[RunningBox]:
    """
    Start a runner on a directory, wait until it serves, and drain it at the end.

    Raises:
        NotMeasuredError: it does not serve.
    """
    state = home / "state"
    process = _start(state, options)
    try:
        await _ready(state / "control.sock", process)
        async with _served(state, process.pid) as box:
            yield box
        process.send_signal(signal.SIGTERM)
        process.wait(LIMIT_S)
    finally:
        process.kill()
        process.wait()


def _start(state: Path, options: Sequence[str]) -> subprocess.Popen[bytes]:
    words = ["-m", "runner", "run", "--state-dir", str(state), "--gpus", "none", "--log-level", "error", *options]
    with on(CORES):
        return subprocess.Popen([sys.executable, *words], cwd=Path(__file__).parents[1])


async def _ready(socket: Path, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + READY_S
    while not await asyncio.to_thread(socket.exists):
        if process.poll() is not None or time.monotonic() > ends:
            raise NotMeasuredError("the runner does not serve: see what it said above")
        await asyncio.sleep(0.05)


@asynccontextmanager
async def _served(state: Path, pid: int) -> AsyncIterator[RunningBox]:
    broker = FolderBroker(str(state / "queue"), box_id="", now=time.time, lease_s=60.0, single=True)
    queue = await broker.open("queue")
    journal, settled = JournalReader(str(state / "journal.db")), Deletions(str(state / "queue" / "claimed"))
    try:
        yield RunningBox(pid, queue, journal, settled)
    finally:
        await queue.close()
        await broker.close()
        await journal.close()
        settled.close()
