"""A runner as a user starts it, with a sink for all jobs, and jobs in its own queue."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from adapters.journal import JournalReader
from adapters.spool import FileSpool
from bench.log_children import STOP_S, BenchError, await_, cpu_s, environment, memory_mib
from bench.log_engine import Runtime, remove_all
from bench.log_pauses import Pauses, pauses_of
from bench.log_writer import TOOK, Work
from runner.job import Key
from runner.ports import LogLine, Position
from runner.receipt import Receipt
from tests.at_work import end_orphans

READY_S = 30.0
DISK_LEAST_BYTES = MEMORY_BYTES = 64 << 20
CONFIG = """
sinks = [{sinks}]
gpus = "none"
docker_host = "{engine}"
job_disk = "64MiB"
max_disk = "256GiB"
"""


class Spent(msgspec.Struct, frozen=True):
    """What a runner used from its first job until now; memory sampled from the first line on."""

    cpu_s: float
    peak_mib: float
    samples_mib: tuple[float, ...]


class LogBox:
    """One runner at work."""

    def __init__(self, process: subprocess.Popen[bytes], state: Path, runtime: Runtime) -> None:
        self.process, self.state, self._runtime = process, state, runtime
        self._cpu_before_s = 0.0
        self._samples_mib: list[float] = []

    def submit(self, jobs: Mapping[str, Work]) -> None:
        """Put jobs into its own queue at once."""
        self._cpu_before_s = cpu_s(self.process.pid)
        queue = self.state / "queue"
        await_(lambda: (queue / "ready").exists() and (queue / "tmp").exists(), READY_S, "the queue is there")
        for job_id, work in jobs.items():
            job = {"id": job_id, "command": work.command, "retries": 0, **self._runtime.fields}
            job["resources"] = {"cpus": work.cpus, "memory": MEMORY_BYTES, "disk": DISK_LEAST_BYTES + 2 * work.bytes}
            (queue / "tmp" / f"{job_id}.json").write_text(json.dumps(job))
        for job_id in jobs:
            (queue / "tmp" / f"{job_id}.json").rename(queue / "ready" / f"{job_id}.json")

    def _look(self) -> bool:
        if self.process.poll() is not None:
            raise BenchError(f"the runner ended: {self._last_words()}")
        if any(self.state.glob("spool/*/*")):
            self._samples_mib.append(memory_mib(self.process.pid))
        return False  # so that it is looked for again

    def watch(self, until: Callable[[], bool], limit_s: float, what: str) -> None:
        """
        Sample its memory until something is so.

        Raises:
            BenchError: it was not in time, or the runner ended.
        """
        await_(lambda: until() or self._look(), limit_s, what)

    def spent(self) -> Spent:
        """Tell what it used until now."""
        used_s = cpu_s(self.process.pid) - self._cpu_before_s
        return Spent(used_s, memory_mib(self.process.pid, "VmHWM"), tuple(self._samples_mib))

    def await_settled(self, limit_s: float) -> None:
        """
        Wait until no job is in flight.

        Raises:
            BenchError: one still was after so long.
        """
        await_(lambda: not asyncio.run(self._in_flight()), limit_s, "all jobs are settled")

    async def _in_flight(self) -> int:
        journal = JournalReader(str(self.state / "journal.db"))
        try:
            return len(await journal.in_flight())
        finally:
            await journal.close()

    def receipt(self, job_id: str) -> Receipt:
        """Return what is known of a job that ended."""
        command = [sys.executable, "-m", "runner", "show", job_id, "--json", "--state-dir", str(self.state)]
        shown = subprocess.run(command, capture_output=True, env=environment(), timeout=STOP_S, check=True)
        return msgspec.json.decode(shown.stdout, type=Receipt)

    def records(self, job_id: str) -> Iterator[LogLine]:
        """Read what a job wrote from the spool, some at a time."""
        (directory,) = (self.state / "spool").glob(f"{job_id}.*")
        spool, position = FileSpool(str(self.state / "spool"), time.time_ns), Position()
        while lines := asyncio.run(spool.read(Key(directory.name), position)):
            yield from lines
            position = Position(lines[-1].attempt, lines[-1].sequence + 1)

    def took_s(self, job_id: str) -> float:
        """Return how long a job's work took it, by its own clock."""
        said = b"".join(record.data for record in self.records(job_id) if record.stream == "stderr")
        return float(said.removeprefix(TOOK))

    def pauses(self, job_id: str) -> Pauses:
        """Return how long reading from a job paused, and how long the job itself did."""
        return pauses_of([record for record in self.records(job_id) if record.stream == "stdout"])

    def _last_words(self) -> str:
        return self.state.with_suffix(".log").read_text(errors="replace")[-1000:]


@contextmanager
def box(directory: Path, runtime: Runtime, sinks: tuple[str, ...]) -> Iterator[LogBox]:
    """Start a runner on a state directory of its own, and wait until it serves; killed at the end."""
    state = directory / f"box-{secrets.token_hex(4)}"
    config = state.with_suffix(".toml")
    quoted = ", ".join(json.dumps(sink) for sink in sinks)
    config.write_text(CONFIG.format(sinks=quoted, engine=runtime.engine or f"unix://{directory}/none.sock"))
    command = [sys.executable, "-m", "runner", "run", "--state-dir", str(state), "--config", str(config)]
    said_at = state.with_suffix(".log")
    with (
        said_at.open("wb") as said,
        subprocess.Popen(command, stdout=said, stderr=said, env=environment(), cwd=directory) as process,
    ):
        try:
            await_(
                lambda: '"ready"' in said_at.read_text(errors="replace") or process.poll() is not None,
                READY_S,
                f"the runner serves: {said_at.read_text(errors='replace')[-500:]}",
            )
            yield LogBox(process, state, runtime)
        finally:
            process.kill()
            if runtime.engine and (state / "box-id").exists():
                remove_all(runtime, (state / "box-id").read_text().strip())
            end_orphans(state)
            shutil.rmtree(state, ignore_errors=True)
