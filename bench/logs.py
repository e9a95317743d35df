"""
How fast, how soon and how surely what a job writes is at a subscriber of Redis, and what a job notices of its sinks.

A real ``runner run`` with one Redis sink for all jobs, for process jobs and for containers; everything in turns within
one run, medians over the turns, ratios of what stood in the same turn. The subscriber is a process of its own and
checks every line: none lost, none twice, in order.

**flood**: one job that writes as fast as it can, and many that write at a pace; lines a second from the first line made
until the last one heard. Beside: the limits (a container's attach socket, or a process's file, read to nothing;
``redis-benchmark`` publishing messages as large as ours) and the seeds' way (each line of a followed log published by
itself). **latency**: from the making of a line until it is heard. **outage**: how much longer a fixed piece of work
takes while the subscriber or Redis is away. **memory**: that of the runner in the first and last third of a long log.

Many that write at a pace are never faster than that: how far they are above the seeds' way is told, and has no bar.
Processor time is that of the runner alone, over whole jobs, for each GB (1e9 bytes) that they wrote.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from bench import log_figures as figures
from bench.log_engine import Runtime
from bench.log_outage import KINDS, outage
from bench.log_parts import Bench, Contender, Row, Sizes, flood, latency, memory, progress
from bench.log_redis import OwnRedis, own_redis
from bench.report import arguments, report
from tests.services.instances import started
from tests.services.service import ServiceError
from tests.services.table import SERVICES

PARTS = ("flood", "latency", "outage", "memory")
RUNTIMES = ("process", "container")
Place = tuple[str, str]
"""A part, and the runtime that it is measured for."""
Turns = dict[Place, list[dict[str, Row]]]
T = TypeVar("T")


def measure(
    everybody: Mapping[Place, Mapping[str, Contender]], turns: int, prepare: Callable[[], None]
) -> tuple[Turns, list[str]]:
    """Give everybody turns, another one first each time; return rows by part and runtime, and what failed."""
    taken: Turns = {place: [] for place in everybody}
    failed: list[str] = []
    for number in range(turns):
        for place in in_turn(list(everybody), number):
            rows: dict[str, Row] = {}
            for who in in_turn(list(everybody[place]), number):
                what = f"turn {number + 1} of {turns}: {', '.join((*place, who))}"
                progress(what)
                try:
                    prepare()
                    rows[who] = everybody[place][who]()
                    progress(f"  {shown(rows[who])}")
                except Exception as error:  # noqa: BLE001 - who fails is told of, and the others have their turns
                    failed.append(f"{what}: {type(error).__name__}: {error}")
                    progress(f"  failed: {failed[-1]}")
            taken[place].append(rows)
    return taken, failed


def in_turn(everybody: Sequence[T], number: int) -> list[T]:
    """Let another one begin each turn."""
    at = number % len(everybody)
    return [*everybody[at:], *everybody[:at]]


def shown(row: Row) -> str:
    """Put a row into words."""
    return ", ".join(f"{name} {value:.4g}" for name, value in row.items())


def contenders(
    options: argparse.Namespace, bench: Bench, redis: OwnRedis, runtimes: Sequence[Runtime]
) -> dict[Place, dict[str, Contender]]:
    """Return who takes part, by part and runtime."""
    parts: dict[str, Callable[[Runtime], dict[str, Contender]]] = {
        "flood": lambda runtime: flood(bench, runtime),
        "latency": lambda runtime: latency(bench, runtime),
        "outage": lambda runtime: outage(bench, runtime, redis, options.outages),
        "memory": lambda runtime: memory(bench, runtime),
    }
    return {(part, runtime.name): parts[part](runtime) for part in options.parts for runtime in runtimes}


def open_runtimes(names: Sequence[str], stack: ExitStack) -> tuple[list[Runtime], dict[str, str]]:
    """Return the runtimes that can be had, and of the others the reason."""
    found, absent = list[Runtime](), dict[str, str]()
    for name in names:
        try:
            found.append(_runtime(name, stack))
        except ServiceError as error:
            absent[name] = str(error)
    return found, absent


def _runtime(name: str, stack: ExitStack) -> Runtime:
    if name == "process":
        return Runtime(name)
    given = os.environ if "RUNNER_TEST_DOCKER" in os.environ else stack.enter_context(started(SERVICES["docker"]))
    return Runtime(name, given["RUNNER_TEST_DOCKER"], given["RUNNER_TEST_IMAGE_PYTHON"])


def sizes_of(options: argparse.Namespace) -> Sizes:
    return Sizes(
        lines=options.lines,
        jobs=options.jobs,
        job_lines=options.rate * options.seconds,
        job_rate=options.rate,
        seed_lines=options.seed_lines,
        latency_lines=options.latency_rate * options.latency_seconds,
        latency_rate=options.latency_rate,
        outage_lines=options.outage_rate * options.outage_seconds,
        outage_rate=options.outage_rate,
        memory_lines=options.memory_lines,
        cores=len(os.sched_getaffinity(0)),
        limit_s=options.limit,
    )


def parsed() -> argparse.Namespace:
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (all)")
    parser.add_argument("--runtimes", nargs="+", choices=RUNTIMES, default=RUNTIMES, help="for which (both)")
    parser.add_argument("--outages", nargs="+", choices=KINDS, default=KINDS, help="the runs of that part (all)")
    for name, value, text in (
        ("--lines", 2_000_000, "that one job writes as fast as it can"),
        ("--jobs", 16, "that write at a pace at the same time"),
        ("--rate", 5_000, "lines a second of each of them"),
        ("--seconds", 20, "that they write for"),
        ("--seed-lines", 100_000, "lines of the seeds' way"),
        ("--latency-rate", 1_000, "lines a second whose latency is taken"),
        ("--latency-seconds", 20, "that it is taken for"),
        ("--outage-rate", 5_000, "lines a second of the fixed work"),
        ("--outage-seconds", 10, "that it takes"),
        ("--memory-lines", 10_000_000, "lines over which memory is watched"),
        ("--limit", 600, "seconds that anything may take"),
    ):
        parser.add_argument(name, type=int, default=value, help=f"{text} (%(default)s)")
    # Not below /tmp or /var/tmp: each job has its own of these.
    disk = "/var/lib" if os.access("/var/lib", os.W_OK) else str(Path.home())
    parser.add_argument("--directory", default=disk, help="a disk to work on (%(default)s)")
    return parser.parse_args()


def main() -> int:
    options = parsed()
    with ExitStack() as stack:
        place = tempfile.TemporaryDirectory(prefix="runner-bench-", dir=options.directory)
        directory = Path(stack.enter_context(place))
        directory.chmod(0o755)
        redis = stack.enter_context(own_redis(directory))
        runtimes, absent = open_runtimes(options.runtimes, stack)
        bench = Bench(redis.port, directory, sizes_of(options))
        taken, failed = measure(contenders(options, bench, redis, runtimes), options.rounds, redis.start)
    missed = [line for (part, runtime), turns in taken.items() for line in figures.missed(part, runtime, turns)]
    for line in missed:
        progress(f"missed: {line}")
    found = {
        "turns": options.rounds,
        "sizes": {name: value for name, value in vars(options).items() if type(value) is int},
        "rows": {"/".join(place): figures.rows_of(turns) for place, turns in taken.items()},
        "compared": {"/".join(place): figures.compared(*place, turns) for place, turns in taken.items()},
        "bars": figures.BARS,
        "missed": missed,
        "failed": failed,
        "absent": absent,
        "reached": not (missed or failed or absent),
    }
    return report("logs", found, options)


if __name__ == "__main__":
    raise SystemExit(main())
