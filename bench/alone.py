"""
Whether a job that asked to be alone is: one loop of one thread, bare, under the runner, and beside noisy neighbours.

In turns, each round: **bare**, on a box without a runner, on the cores that such a job gets; **alone**, a job with
``exclusive = "box"``, with others waiting behind it; **beside**, the same job without that, beside jobs that copy
memory, half a core each. The loop reports its own wall time, so starts and interpreters do not count. **Hand-over** is
from the last stored byte of the job that was alone until the container of the next such job starts. **The runner's
share** of one core is measured while one is alone for some seconds.

The row is void where the neighbours cannot be seen, or where the bare loop had to wait for a core: then this machine,
or what else it does, hides what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from adapters.box import spare_cores
from adapters.containers.command import SYSTEM_PATH
from bench.alone_box import CORES, NotMeasuredError, RunningBox, cpu_s, on, running
from bench.report import arguments, report
from runner.records import JournalEntry

LOOP = (Path(__file__).parent / "alone_loop.py").read_text(encoding="utf-8")
SHARE_OF_NEIGHBOUR = 0.5
NOISE_SETTLES_S, RUNNER_SETTLES_S = 0.5, 0.7
QUIET_S, SAMPLED_S = 6.0, 4.0
VISIBLE = 1.05
"""By so much must neighbours slow the loop down."""
WAITED_MOST = 0.02
BARS = {"alone_over_bare": 1.02, "handover_p50_ms": 100.0, "runner_share": 0.002}


class Loop(msgspec.Struct, frozen=True):
    """How long the loop took, and how long it had a core, in seconds."""

    seconds: float
    cpu_seconds: float

    @property
    def waited(self) -> float:
        """The share of its time in which it had none."""
        return 1 - self.cpu_seconds / self.seconds


class Round(msgspec.Struct, frozen=True):
    """The loop three times, and the milliseconds of the hand-over between two jobs that were alone."""

    bare: Loop
    alone: Loop
    beside: Loop
    handover_ms: float


def program(what: str, how_much: float) -> list[str]:
    """Return the words that run one of the jobs, with the interpreter that its PATH names."""
    return ["python3", "-I", "-S", "-c", LOOP, what, str(how_much)]


class Measured:
    """One machine: what its rounds are made of."""

    def __init__(self, home: Path, steps: int, image: str, docker: str) -> None:
        """Measure a loop of so many steps; with an image, jobs are containers of the engine at that address."""
        self._home, self._steps, self._image, self._docker = home, steps, image, docker
        self._options = ["--docker-host", docker if image else ""]
        self._cores = CORES.difference(spare_cores(tuple(sorted(CORES))))

    def bare(self) -> Loop:
        """Run the loop without a runner; with an image, in a bare container."""
        place = self._home / "bare"
        place.mkdir(exist_ok=True)
        words = program("loop", self._steps)
        if self._image:
            cores = ",".join(map(str, sorted(self._cores)))
            run = ["docker", "-H", self._docker, "run", "--rm", "--network", "none", "--cpuset-cpus", cores]
            words = [*run, "-v", f"{place}:/bare", "-w", "/bare", self._image, *words]
        with on(self._cores):
            subprocess.run(words, cwd=place, env={"PATH": SYSTEM_PATH}, check=True)
        return _figure(place / "figures.json")

    async def round(self, number: int) -> Round:
        """Give each its turn."""
        bare = await asyncio.to_thread(self.bare)
        async with running(self._home, self._options) as box:
            await asyncio.sleep(RUNNER_SETTLES_S)
            alone, handover_ms = await self._alone(box, number)
            return Round(bare, alone, await self._beside(box, number), handover_ms)

    async def _alone(self, box: RunningBox, number: int) -> tuple[Loop, float]:
        first, second, behind = f"alone-{number}", f"next-{number}", f"behind-{number}"
        jobs = [self._job(job_id, "loop", self._steps, exclusive="box") for job_id in (first, second)]
        await box.put(*jobs, self._job(behind, "noise", 0.1))
        await box.ended()
        last, following, _ = await box.entries(first, second, behind)
        if following.claimed.at < last.claimed.at or _began_at(following) < _stored_at(last):
            raise NotMeasuredError("two jobs that were to be alone overlap")
        return self._result(first), (_began_at(following) - _stored_at(last)) * 1000

    async def _beside(self, box: RunningBox, number: int) -> Loop:
        measured, noises = f"beside-{number}", [f"noise-{number}-{core}" for core in sorted(CORES)]
        lasting = 4 * self._result(f"alone-{number}").seconds + 2
        share = {"cpus": SHARE_OF_NEIGHBOUR}
        await box.put(*(self._job(noise, "noise", lasting, resources=_sized(share)) for noise in noises))
        for noise in noises:
            await box.begun(noise)
        await asyncio.sleep(NOISE_SETTLES_S)
        await box.put(self._job(measured, "loop", self._steps, resources=_sized({"cpus": len(CORES) / 2})))
        await box.ended()
        its, *theirs = await box.entries(measured, *noises)
        if any(_began_at(one) > _began_at(its) or _ended_at(one) < _ended_at(its) for one in theirs):
            raise NotMeasuredError("the neighbours were not there all the time")
        return self._result(measured)

    async def runner_share(self) -> float:
        """Return the share of one core that the runner uses while a job is alone."""
        async with running(self._home, self._options) as box:
            await box.put(self._job("quiet", "sleep", QUIET_S, exclusive="box"))
            await box.begun("quiet")
            await asyncio.sleep((QUIET_S - SAMPLED_S) / 2)
            before = cpu_s(box.pid)
            await asyncio.sleep(SAMPLED_S)
            used_s = cpu_s(box.pid) - before
            await box.ended()
            await box.entries("quiet")
        return used_s / SAMPLED_S

    def _job(self, job_id: str, what: str, how_much: float, **fields: object) -> dict[str, object]:
        outputs = [{"path": "figures.json", "url": f"folder://{self._home}/out/"}] if what == "loop" else []
        where = {"image": self._image} if self._image else {}
        defaults = {"resources": _sized({}), "timeout": "2m", "outputs": outputs, **where}
        return {"id": job_id, "command": program(what, how_much), **defaults, **fields}

    def _result(self, job_id: str) -> Loop:
        return _figure(self._home / "out" / job_id / "figures.json")


def _sized(resources: dict[str, float]) -> dict[str, object]:
    return {"memory": "256MiB", "disk": "64MiB", **resources}


def _figure(path: Path) -> Loop:
    return msgspec.json.decode(path.read_bytes(), type=Loop)


def _stored_at(entry: JournalEntry) -> float:
    return entry.stored.at if entry.stored else 0.0


def _began_at(entry: JournalEntry) -> float:
    return (entry.stored and entry.stored.receipt.started_at) or 0.0


def _ended_at(entry: JournalEntry) -> float:
    return (entry.stored and entry.stored.receipt.ended_at) or 0.0


def spread(name: str, values: Sequence[float]) -> dict[str, float]:
    """Return the median and the distance between the quartiles."""
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return {f"{name}_p50_ms": round(statistics.median(values), 2), f"{name}_iqr_ms": round(third - first, 2)}


def figures_of(rounds: Sequence[Round], runner_share: float) -> dict[str, object]:
    """Return the row: figures, ratios of medians, and whether it is void."""
    loops = {
        "bare": [one.bare for one in rounds],
        "alone": [one.alone for one in rounds],
        "beside": [one.beside for one in rounds],
    }
    handovers = [one.handover_ms for one in rounds]
    row = spread("handover", handovers) | {"handover_most_ms": round(max(handovers), 2)}
    for name, of_name in loops.items():
        row |= spread(name, [loop.seconds * 1000 for loop in of_name])
        row[f"{name}_waited"] = round(statistics.median(loop.waited for loop in of_name), 4)
    for name in ("alone", "beside"):
        row[f"{name}_over_bare"] = round(row[f"{name}_p50_ms"] / row["bare_p50_ms"], 4)
    row["runner_share"] = round(runner_share, 5)
    void = void_because(row)
    missed = [f"{name} {row[name]:g}, bar {bar:g}" for name, bar in BARS.items() if row[name] > bar]
    return {**row, "void": void, "bars": BARS, "missed": missed, "reached": not void and not missed}


def void_because(row: dict[str, float]) -> str:
    """
    Say why nothing can be seen from this row, "" where it can.

    Without any of our jobs the loop must have its core for itself, and our neighbours must stand out of the spread.
    """
    if row["bare_waited"] > WAITED_MOST:
        return f"this machine is not idle: bare, the loop was without a core {row['bare_waited']:.1%} of its time"
    visible = max(row["bare_p50_ms"] * VISIBLE, row["bare_p50_ms"] + row["bare_iqr_ms"])
    if row["beside_p50_ms"] > visible:
        return ""
    return f"noisy neighbours cannot be seen: {row['beside_p50_ms']:g} ms beside them, visible above {visible:g} ms"


async def measure(options: argparse.Namespace, home: Path) -> dict[str, object]:
    """Find how many steps take as long as asked for, then measure all rounds."""
    trial = Measured(home, 1_000_000, options.image, options.docker_host)
    steps = int(1_000_000 * options.seconds / min(trial.bare().seconds for _ in range(3)))
    machine = Measured(home, steps, options.image, options.docker_host)
    rounds = [await machine.round(number) for number in range(options.rounds)]
    how = {"rounds": options.rounds, "runtime": "container" if options.image else "process", "steps": steps}
    return {**how, **figures_of(rounds, await machine.runner_share())}


def main() -> int:
    parser = arguments(__doc__, rounds=30)
    parser.add_argument("--seconds", type=float, default=0.5, help="how long the loop takes, bare (%(default)s)")
    parser.add_argument("--image", default="", help="run jobs in containers of this image, which has python3")
    parser.add_argument("--docker-host", default="unix:///var/run/docker.sock", help="the engine (%(default)s)")
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(CORES)})
    with tempfile.TemporaryDirectory(prefix="runner-alone-", dir="/var/tmp") as directory:
        home = Path(directory)
        home.chmod(0o755)
        return report("alone", asyncio.run(measure(options, home)), options)


if __name__ == "__main__":
    raise SystemExit(main())
