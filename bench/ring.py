"""
What the ring adds to a job: 2,000 jobs that do nothing through the whole runner, two at once.

Folder queue, process runtime, journal, spool and receipts are on: it refuses to run without them, and looks in the end
whether every job left all of them. Beside it, in turns within one run and one process on uvloop: (b) a loop that makes
the same workspace, log files, limits and exit file by the same starter, and (c) a loop of bare subprocesses.

A job's time is, in the ring, from the release of its message into the queue until the journal holds its settlement,
and in (b) from the making of its workspace until that is removed. Both keep two jobs at any time: the next one begins
when one is done. **The overhead** at p50 and at p99 is that quantile of the ring's block less the same of the block of
(b) in the same turn; the medians over all turns are reported and checked. ``backlog`` blocks are released all at once,
as on a busy box: there the ring stages and stores some jobs while others run, and only the wall time a job counts,
again less that of (b).

``--rss`` measures instead how much the process grows between job 2,000 and the last one, in one life of the runner.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import uvloop

from bench.peers import AT_ONCE, Block, StartLoop, bare_block, open_start_loop
from bench.report import arguments, report
from bench.whole_ring import WholeRing, open_ring
from runner.config import Config
from runner.units import Size

JOBS, RSS_JOBS = 2_000, 12_000
WARM_UP = 20
RSS_FROM = 2_000
RSS_STEP = 1_000
# So few at once that what this program itself holds of them is nothing beside the bar.
RSS_BLOCK = 100
BARS_MS = {"overhead_p50_ms": 5.0, "overhead_p99_ms": 15.0, "backlog_overhead_ms": 5.0}
RSS_BAR_MIB = 1.0
PAGE_BYTES = 4096

Turn = dict[str, Block]


def configuration(directory: Path, name: str) -> Config:
    """Everything as by default, but for what decides how many jobs run at once, on whatever box."""
    state = str(directory / name)
    return Config(state_dir=state, max_jobs=AT_ONCE, job_disk=Size(64 << 20), gpus="none", docker_host="")


def numbered(kind: str, first: int, count: int) -> list[str]:
    return [f"{kind}-{number}" for number in range(first, first + count)]


async def one_turn(ring: WholeRing, starts: StartLoop, number: int, count: int) -> Turn:
    """Give everybody one block."""
    first = number * count
    return {
        "ring": await ring.block(numbered("ring", first, count), standing=AT_ONCE),
        "starts": await starts.block(numbered("starts", first, count)),
        "backlog": await ring.block(numbered("backlog", first, count), standing=count),
        "bare": await bare_block(count),
    }


async def measure(directory: Path, turns: int, jobs: int) -> list[Turn]:
    """Half of the ring's jobs go through it two at a time, half from a backlog."""
    async with open_ring(configuration(directory, "ring"), str(directory / "held")) as ring:
        await ring.block(numbered("first", 0, WARM_UP), standing=AT_ONCE)
        async with open_start_loop(configuration(directory, "starts"), await ring.given()) as starts:
            await starts.block(numbered("first", 0, WARM_UP))
            taken = [await one_turn(ring, starts, number, jobs // turns // 2) for number in range(turns)]
        await ring.prove()
    return taken


def quantile_ms(block: Block, share: float) -> float:
    times = sorted(span.ms for span in block.spans)
    return times[min(len(times) - 1, round(share * len(times)))]


def figures_of(turn: Turn) -> dict[str, float]:
    """Return the figures of one turn, in milliseconds."""
    ring, starts = turn["ring"], turn["starts"]
    shown = [(who, share) for who in ("ring", "starts", "bare") for share in (50, 99)]
    times = {f"{who}_p{share}_ms": quantile_ms(turn[who], share / 100) for who, share in shown}
    return {
        "overhead_p50_ms": times["ring_p50_ms"] - times["starts_p50_ms"],
        "overhead_p99_ms": times["ring_p99_ms"] - times["starts_p99_ms"],
        "backlog_overhead_ms": turn["backlog"].ms_a_job - starts.ms_a_job,
        **times,
        **{f"{who}_ms_a_job": block.ms_a_job for who, block in turn.items()},
        "ring_cpu_ms_a_job": ring.cpu_ms_a_job,
        "starts_cpu_ms_a_job": starts.cpu_ms_a_job,
    }


def medians(turns: Sequence[Turn]) -> dict[str, float]:
    each = [figures_of(turn) for turn in turns]
    return {name: round(statistics.median(figures[name] for figures in each), 2) for name in each[0]}


async def grow(directory: Path, jobs: int) -> dict[int, float]:
    """Return the MiB that this process has resident, by the number of jobs that went round."""
    sizes: dict[int, float] = {}
    async with open_ring(configuration(directory, "ring"), str(directory / "held")) as ring:
        for first in range(0, jobs, RSS_BLOCK):
            await ring.block(numbered("ring", first, RSS_BLOCK), standing=RSS_BLOCK)
            if (first + RSS_BLOCK) % RSS_STEP == 0:
                gc.collect()
                sizes[first + RSS_BLOCK] = resident_mib()
        await ring.prove()
    return sizes


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES / 2**20


def compare(options: argparse.Namespace, directory: Path) -> int:
    turns = uvloop.run(measure(directory, options.rounds, options.jobs or JOBS))
    found = medians(turns)
    how = {"jobs": options.jobs or JOBS, "turns": options.rounds, "at_once": AT_ONCE}
    reached = all(found[name] <= bar for name, bar in BARS_MS.items())
    return report("ring", {**how, **found, "bars": BARS_MS, "reached": reached}, options)


def weigh(options: argparse.Namespace, directory: Path) -> int:
    jobs = options.jobs or RSS_JOBS
    sizes = uvloop.run(grow(directory, jobs))
    growth = sizes[jobs] - sizes[RSS_FROM]
    rounded = {str(count): round(size, 2) for count, size in sizes.items()}
    figures = {"jobs": jobs, "rss_mib": rounded, "growth_mib": round(growth, 2), "bars": {"growth_mib": RSS_BAR_MIB}}
    return report("ring-rss", {**figures, "reached": growth < RSS_BAR_MIB}, options)


def main() -> int:
    parser = arguments(__doc__, rounds=8)
    parser.add_argument("--jobs", type=int, default=0, help=f"through the ring ({JOBS}, with --rss {RSS_JOBS})")
    parser.add_argument("--rss", action="store_true", help="measure memory instead of time")
    # Not /tmp, which may be memory: here a disk is waited for.
    parser.add_argument("--directory", default="/var/tmp", help="a disk to work on (%(default)s)")  # noqa: S108
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        return (weigh if options.rss else compare)(options, Path(directory))


if __name__ == "__main__":
    raise SystemExit(main())
