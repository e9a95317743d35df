"""
How fast jobs come out of each kind of queue: jobs a second from a backlog, and how soon one begins at an idle worker.

On each service (a folder, Redis, RabbitMQ, SQS) the real ``runner run`` stands beside a bare consumer of the same
client library that runs the same starter; on Redis also beside arq and Celery, which start a plain subprocess. All
have two jobs at once, in processes of their own, one contender at a time, in turns within one run; all else is as it
comes.

**Dispatch** is from right before the call that puts a job (by each contender's own client) until the job's process says
that it began, which is read from one FIFO for all; jobs come one at a time at a steady pace. Quantiles are of each
turn, and what is reported are medians over the turns; ``overtaken`` is the share of jobs that were put before the last
one had begun, which is nothing where the machine is quiet and the worker does not look only now and then. On RabbitMQ
the runner publishes each job once more before it offers it; ``claim_ms`` is what such a publish takes by itself, and
is allowed for.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import uvloop

from bench import queue_figures as figures
from bench.queue_arrivals import Arrivals
from bench.queue_clients import Place, open_client
from bench.queue_contenders import Contender, contenders_on
from bench.queue_services import KINDS, open_services
from bench.queue_turns import Size, Turn, one_turn
from bench.report import arguments, report

Taken = dict[str, dict[str, list[Turn]]]


async def measure(urls: dict[str, str], directory: Path, turns: int, size: Size) -> tuple[Taken, list[float]]:
    """Give everybody turns; return them by service and contender, and the cost of claims on RabbitMQ."""
    (directory / "begun").mkdir(mode=0o755)
    arrivals = Arrivals(directory / "begun")
    everybody = [it for kind, url in urls.items() for it in contenders_on(kind, url, arrivals, directory)]
    taken: Taken = {it.place.kind: {} for it in everybody}
    claims_ms: list[float] = []
    for number in range(turns):
        for contender in in_turn(everybody, number):
            progress(f"turn {number + 1} of {turns}: {contender.place.kind}, {contender.who}")
            name = f"{contender.place.kind}-{contender.who}-{number}"
            turn = await one_turn(contender, size, name)
            taken[contender.place.kind].setdefault(contender.who, []).append(turn)
        if "rabbitmq" in urls:
            claims_ms.append(await claim_ms(urls["rabbitmq"], size.steady))
    progress("")
    arrivals.close()
    return taken, claims_ms


def in_turn(everybody: Sequence[Contender], number: int) -> list[Contender]:
    """Let another one begin each turn, so that what a machine does by and by falls on all; a bare one follows ours."""
    at = number % len(everybody)
    return [*everybody[at:], *everybody[:at]]


async def claim_ms(url: str, count: int) -> float:
    """Return how long a confirmed publish of a small message takes, the median of some."""
    client = await open_client(Place("rabbitmq", url, "bench-claims"))
    times = []
    for _ in range(count):
        began = time.perf_counter()
        await client.put(b"x" * 200)
        times.append((time.perf_counter() - began) * 1000)
    await client.close()
    return statistics.median(times)


def progress(text: str) -> None:
    """Say on a terminal what is being measured."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def compare(options: argparse.Namespace, urls: dict[str, str], absent: dict[str, str], directory: Path) -> int:
    size = Size(options.jobs, options.backlog)
    taken, claims_ms = uvloop.run(measure(urls, directory, options.rounds, size))
    rows = {kind: {who: figures.row_of(turns) for who, turns in each.items()} for kind, each in taken.items()}
    claim = {"claim_ms": round(statistics.median(claims_ms), 2)} if claims_ms else {}
    allowed = {"rabbitmq": claim.get("claim_ms", 0.0)}
    compared = {kind: figures.compared(each, allowed.get(kind, 0.0)) for kind, each in rows.items()}
    print(figures.table(rows), file=sys.stderr)
    missed = figures.missed(compared)
    for line in (*figures.lines(compared), *(f"missed: {it}" for it in missed)):
        print(line, file=sys.stderr)
    found = {
        "turns": options.rounds,
        "jobs": size.steady,
        "backlog": size.backlog,
        "rows": rows,
        "compared": compared,
        "steps_ms": {kind: figures.steps_of(each["ours"]) for kind, each in taken.items()},
        **claim,
        "absent": absent,
        "bars": figures.BARS,
        "missed": missed,
        "reached": not missed and not absent,
    }
    return report("queues", found, options)


def main() -> int:
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--jobs", type=int, default=200, help="at a steady pace in each turn (%(default)s)")
    parser.add_argument("--backlog", type=int, default=100, help="at once in each turn (%(default)s)")
    parser.add_argument("--services", nargs="+", choices=KINDS, default=KINDS, help="where to measure (all)")
    # Not below /tmp or /var/tmp: each job has its own of these, and the way to a workspace below them is made in it.
    disk = "/var/lib" if os.access("/var/lib", os.W_OK) else str(Path.home())
    parser.add_argument("--directory", default=disk, help="a disk to work on (%(default)s)")
    options = parser.parse_args()
    with ExitStack() as stack:
        place = tempfile.TemporaryDirectory(prefix="runner-bench-", dir=options.directory)
        directory = Path(stack.enter_context(place))
        # Jobs have users of their own, which pass through here.
        directory.chmod(0o755)
        urls, absent = open_services(options.services, stack)
        return compare(options, urls, absent, directory)


if __name__ == "__main__":
    raise SystemExit(main())
