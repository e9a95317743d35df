"""The parts of the measurement that need a healthy sink: flood, latency, memory; each turn gives everybody a row."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from bench.log_box import LogBox, box
from bench.log_check import Heard, Order
from bench.log_children import BenchError, listening
from bench.log_engine import Runtime
from bench.log_limits import published, read_to_nothing
from bench.log_seeds import follow_all
from bench.log_writer import Work

GB = 1e9
CHANNEL = "log:{id}"
SETTLED_S = 300.0

Row = dict[str, float]
"""Figures by name."""


class Sizes(msgspec.Struct, frozen=True):
    """How much each part writes, and how long one run may take."""

    lines: int
    jobs: int
    job_lines: int
    job_rate: int
    seed_lines: int
    latency_lines: int
    latency_rate: int
    outage_lines: int
    outage_rate: int
    memory_lines: int
    cores: float
    limit_s: float

    def one(self, lines: int) -> dict[str, Work]:
        """Return one job that writes as fast as it can."""
        return {"floods": Work(lines)}

    def many(self, lines: int) -> dict[str, Work]:
        """Return jobs that write so many lines each, at their pace."""
        work = Work(lines, max(1, self.job_rate // 100), self.job_rate, cpus=self._share)
        return {f"paces-{number}": work for number in range(self.jobs)}

    @property
    def _share(self) -> float:
        return max(0.01, round(0.8 * self.cores / self.jobs, 2))


class Bench(msgspec.Struct, frozen=True):
    """Where it is measured: the port of Redis, a disk, and how much of everything."""

    port: int
    directory: Path
    sizes: Sizes

    def sink(self, *, stream: bool = False) -> str:
        """Return the URL of a sink for all jobs."""
        return f"redis://127.0.0.1:{self.port}/0?channel={CHANNEL}" + (f"&stream={CHANNEL}" if stream else "")

    def ours(self, runtime: Runtime, works: Mapping[str, Work], *, timed: bool = False) -> Row:
        """Run jobs with a runner, and return what came of them."""
        order = Order(port=self.port, jobs={job: work.count for job, work in works.items()}, timed=timed)
        with box(self.directory, runtime, (self.sink(),)) as it, listening(order) as listener:
            it.submit(works)
            with suppress(BenchError):
                it.watch(listener.has_ended, self.sizes.limit_s, f"all lines of {len(works)} jobs at the subscriber")
            heard = listener.heard()
            it.await_settled(SETTLED_S)
            check_receipts(it, works)
            return row_of(it, works, heard)


def check_receipts(it: LogBox, works: Mapping[str, Work]) -> None:
    """
    Compare what receipts tell with what was written; a job says a line on stderr as well.

    Raises:
        BenchError: a job ended otherwise, or has another log.
    """
    for job, work in works.items():
        receipt = it.receipt(job)
        if (receipt.end_reason, receipt.log.lines, receipt.log.gaps) != ("succeeded", work.count + 1, 0):
            raise BenchError(f"{job}: {receipt.end_reason} {receipt.message}, {receipt.log} of {work.count} lines")


def row_of(it: LogBox, works: Mapping[str, Work], heard: Heard) -> Row:
    """Put into one row what a runner used and a subscriber heard."""
    spent = it.spent()
    third = max(1, len(spent.samples_mib) // 3)
    return {
        "lines_a_second": heard.lines_a_second,
        "lost": heard.lost,
        "again": heard.again,
        "damaged": heard.damaged,
        "message_bytes": heard.message_bytes / heard.messages,
        "lines_a_message": heard.lines / heard.messages,
        "p50_ms": heard.p50_ms,
        "p99_ms": heard.p99_ms,
        "runner_cpu_s": spent.cpu_s,
        "runner_cpu_s_a_gb": spent.cpu_s / (sum(work.bytes for work in works.values()) / GB),
        "peak_mib": spent.peak_mib,
        "first_third_mib": statistics.median(spent.samples_mib[:third] or (spent.peak_mib,)),
        "last_third_mib": statistics.median(spent.samples_mib[-third:] or (spent.peak_mib,)),
        "subscriber_cpu_s": heard.cpu_s,
    }


Contender = Callable[[], Row]


def flood(bench: Bench, runtime: Runtime) -> dict[str, Contender]:
    """Return who takes part, with one job and with many."""
    sizes, where = bench.sizes, (runtime, bench.directory)
    # Filled by our own first turn; how large our messages are is measured, not assumed.
    message: Row = {"message_bytes": 64 << 10, "lines_a_message": 600.0}

    def ours(works: Mapping[str, Work]) -> Row:
        row = bench.ours(runtime, works)
        if len(works) == 1:
            message.update({name: row[name] for name in message})
        return row

    def limit(works: Mapping[str, Work]) -> Row:
        return {"lines_a_second": read_to_nothing(*where, works, sizes.limit_s)}

    def seeds(works: Mapping[str, Work]) -> Row:
        heard = follow_all(runtime, bench.port, bench.directory, works, sizes.limit_s)
        gb = sum(work.bytes for work in works.values()) / GB
        return {"lines_a_second": heard.lines_a_second, "cpu_s_a_gb": heard.cpu_s / gb}

    def publish() -> Row:
        rate = published(bench.port, round(message["message_bytes"]), message["lines_a_message"])
        return {"lines_a_second": rate}

    one, many = sizes.one(sizes.lines), sizes.many(sizes.job_lines)
    few, fewer = sizes.one(sizes.seed_lines), sizes.many(max(1, sizes.seed_lines // sizes.jobs))
    return {
        "ours_one": lambda: ours(one),
        "limit_one": lambda: limit(one),
        "seeds_one": lambda: seeds(few),
        "published": publish,
        "ours_many": lambda: ours(many),
        "limit_many": lambda: limit(many),
        "seeds_many": lambda: seeds(fewer),
    }


def latency(bench: Bench, runtime: Runtime) -> dict[str, Contender]:
    """Return one job that writes a line at a time."""
    works = {"ticks": Work(bench.sizes.latency_lines, 1, bench.sizes.latency_rate)}
    return {"ours": lambda: bench.ours(runtime, works, timed=True)}


def memory(bench: Bench, runtime: Runtime) -> dict[str, Contender]:
    """Return one job that writes very much."""
    return {"ours": lambda: bench.ours(runtime, bench.sizes.one(bench.sizes.memory_lines))}


def progress(text: str) -> None:
    """Say what is being measured."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
