"""
What the runner adds to a container: 200 that do nothing, one at a time and four at a time, through the whole ring.

Beside it, in turns within one run: bare aiodocker with the same create options, the same without any sealing, and a
shell loop of ``docker run`` with the same options. **The share** of the runner is its wall time a job at one at a time,
from a job's release into the queue until its settlement, less that of bare aiodocker in the same turn; **the rate** is
that of a backlog over that of bare aiodocker with as many at once. Medians over the turns.

``--adopt`` measures instead how soon a runner that was killed has its containers back: from the start of the new
process until the log of each of them has grown again; each writes four lines a second, so up to 0.25 s of it is theirs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import uvloop

from bench.container_adoption import adopted_s
from bench.container_peers import COMMAND, MEMORY_BYTES, BareDocker, DockerRun, open_bare
from bench.report import arguments, report
from bench.whole_ring import WholeRing, open_ring
from runner.config import Config
from runner.units import Size
from tests.services.instances import started
from tests.services.table import SERVICES

AT_ONCE = (1, 4)
WARM_UP = 3
BARS = {"share_ms": 50.0, "rate_over_bare": 0.95, "adopted_s": 2.0}

Row = dict[str, float]


class Contenders:
    """Everybody who takes part, for one number of containers at once."""

    def __init__(self, ring: WholeRing, sealed: BareDocker, unsealed: BareDocker, shell: DockerRun, slots: int) -> None:
        self._ring, self._sealed, self._unsealed, self._shell, self._slots = ring, sealed, unsealed, shell, slots

    async def turn(self, number: int, count: int) -> Row:
        """Give each a block, another one first each time; milliseconds a job."""
        name = f"{self._slots}-{number}"
        blocks = {
            "ours": lambda: self._ring.block(numbered(f"ring-{name}", count), standing=self._slots),
            "backlog": lambda: self._ring.block(numbered(f"backlog-{name}", count), standing=count),
            "sealed": lambda: self._sealed.block(numbered(f"sealed-{name}", count), self._slots),
            "unsealed": lambda: self._unsealed.block(numbered(f"unsealed-{name}", count), self._slots),
        }
        order = list(blocks)
        at = number % len(order)
        taken = {who: (await blocks[who]()).ms_a_job for who in (*order[at:], *order[:at])}
        return {**taken, "docker_run": await self._shell.block(count, self._slots)}


def numbered(name: str, count: int) -> list[str]:
    return [f"{name}-{number}" for number in range(count)]


async def measure(url: str, image: str, directory: Path, turns: int, jobs: int) -> dict[int, list[Row]]:
    job = {"command": COMMAND, "image": image, "resources": {"cpus": 0.5, "memory": MEMORY_BYTES}}
    taken: dict[int, list[Row]] = {}
    for slots in AT_ONCE:
        config = Config(
            state_dir=str(directory / f"ring-{slots}"),
            max_jobs=slots,
            job_disk=Size(64 << 20),
            gpus="none",
            docker_host=url,
        )
        async with AsyncExitStack() as opened:
            contenders = Contenders(
                await opened.enter_async_context(open_ring(config, str(directory / f"held-{slots}"), job)),
                await opened.enter_async_context(open_bare(url, image, str(directory / "bare"), sealed=True)),
                await opened.enter_async_context(open_bare(url, image, str(directory / "bare"), sealed=False)),
                DockerRun(url, image, str(directory / "shell")),
                slots,
            )
            await contenders.turn(-1, WARM_UP)
            taken[slots] = []
            for number in range(turns):
                progress(f"{slots} at once, turn {number + 1} of {turns}")
                taken[slots].append(await contenders.turn(number, jobs // turns))
    progress("")
    return taken


def progress(text: str) -> None:
    """Say on a terminal what is being measured."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def medians(rows: list[Row]) -> Row:
    return {who: round(statistics.median(row[who] for row in rows), 1) for who in rows[0]}


def figures_of(taken: Mapping[int, list[Row]]) -> dict[str, object]:
    """Return the medians, and what is compared with the bars."""
    one, four = taken[AT_ONCE[0]], taken[AT_ONCE[1]]
    share_ms = statistics.median(row["ours"] - row["sealed"] for row in one)
    rates = {slots: statistics.median(row["sealed"] / row["backlog"] for row in rows) for slots, rows in taken.items()}
    sealing_ms = statistics.median(row["sealed"] - row["unsealed"] for row in one)
    return {
        "ms_a_job": {str(slots): medians(rows) for slots, rows in taken.items()},
        "share_ms": round(share_ms, 1),
        "rate_over_bare": {str(slots): round(rate, 3) for slots, rate in rates.items()},
        "rate_over_docker_run": round(statistics.median(row["docker_run"] / row["backlog"] for row in four), 2),
        "sealing_ms": round(sealing_ms, 1),
        "bars": BARS,
        "reached": share_ms <= BARS["share_ms"] and min(rates.values()) >= BARS["rate_over_bare"],
    }


def compare(options: argparse.Namespace, url: str, image: str, directory: Path) -> int:
    taken = uvloop.run(measure(url, image, directory, options.rounds, options.jobs))
    return report("containers", {"jobs": options.jobs, "turns": options.rounds, **figures_of(taken)}, options)


def adopt(options: argparse.Namespace, url: str, image: str, directory: Path) -> int:
    times = [adopted_s(url, image, directory, options.containers, number) for number in range(options.rounds)]
    seconds = statistics.median(times)
    figures = {"containers": options.containers, "turns": options.rounds, "adopted_s": round(seconds, 2)}
    reached = seconds <= BARS["adopted_s"]
    return report(
        "containers-adopted", {**figures, "bars": {"adopted_s": BARS["adopted_s"]}, "reached": reached}, options
    )


def main() -> int:
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--jobs", type=int, default=200, help="containers of each at each number at once (%(default)s)")
    parser.add_argument("--adopt", action="store_true", help="measure adoption instead")
    parser.add_argument("--containers", type=int, default=50, help="that are adopted (%(default)s)")
    parser.add_argument("--directory", default="/var/tmp", help="a disk to work on (%(default)s)")  # noqa: S108
    options = parser.parse_args()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.directory)))
        directory.chmod(0o755)
        if "RUNNER_TEST_DOCKER" not in os.environ:
            os.environ.update(stack.enter_context(started(SERVICES["docker"])))
        url, image = os.environ["RUNNER_TEST_DOCKER"], os.environ["RUNNER_TEST_IMAGE_BUSYBOX"]
        return (adopt if options.adopt else compare)(options, url, image, directory)


if __name__ == "__main__":
    raise SystemExit(main())
