"""
What it costs to start a process job: from the call to its exit seen, for a command that does nothing.

Beside it, interleaved in the same run: the bare subprocess, and the same runtime without what this box lets it isolate
(no user, view or control group of the job's own). Milliseconds; processor time is that of the runner alone.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import uvloop

from adapters.containers.cgroup import Cgroups
from adapters.containers.process import ProcessContainers
from bench.report import arguments, report
from runner.job import make_key
from runner.ports import ContainerSpec
from runner.records import Grant, Place

PROGRAM = "/bin/true"
USERS = (1_900_000_000, 1000)


async def one_job(containers: ProcessContainers, directory: Path, name: str) -> dict[str, float]:
    """Run one job and return how long each part took, in seconds."""
    workspace = directory / name
    workspace.mkdir()
    grant = Grant(places=(Place(memory=1 << 30, cpus=1, disk=1 << 30),))
    key = make_key("folder:///q", name, "first")
    spec = ContainerSpec(
        name=name, key=key, attempt=1, command=(PROGRAM,), env={}, workspace=str(workspace), grant=grant
    )
    cpu, begun = time.process_time(), time.perf_counter()
    await containers.start(spec)
    started = time.perf_counter()
    assert (await containers.wait(name)).code == 0
    ended = time.perf_counter()
    async for chunk in containers.attach(name, {}):
        raise AssertionError(chunk)
    await containers.remove(name)
    removed = time.perf_counter()
    return {
        "start": started - begun,
        "start_to_exit": ended - begun,
        "remove": removed - ended,
        "runner_cpu": time.process_time() - cpu,
    }


def bare() -> dict[str, float]:
    """Run the same program as a bare subprocess."""
    begun = time.perf_counter()
    subprocess.run([PROGRAM], check=True)
    return {"start_to_exit": time.perf_counter() - begun}


async def measure(rounds: int, directory: Path) -> dict[str, list[dict[str, float]]]:
    """Take turns, so that what else the machine does falls on all alike."""

    def opened(name: str, users: tuple[int, int] | None, cgroups: Cgroups | None) -> ProcessContainers:
        return ProcessContainers(
            str(directory / name),
            box_id=name,
            uid_range=users,
            now=time.time,
            cgroups=cgroups,
            claims=str(directory / "claims"),
        )

    ours, plain = opened("ours", USERS, None), opened("plain", None, Cgroups({}))
    taken: dict[str, list[dict[str, float]]] = {"ours": [], "plain": [], "bare": []}
    for number in range(rounds):
        taken["ours"].append(await one_job(ours, directory, f"ours-{number}"))
        taken["plain"].append(await one_job(plain, directory, f"plain-{number}"))
        taken["bare"].append(await asyncio.to_thread(bare))
    await ours.close()
    await plain.close()
    return taken


def summary(taken: dict[str, list[dict[str, float]]], choose: Callable[[list[float]], float]) -> dict[str, float]:
    """Return milliseconds by name."""
    return {
        f"{who}_{part}_ms": round(choose([row[part] for row in rows]) * 1000, 2)
        for who, rows in taken.items()
        for part in rows[0]
    }


def main() -> int:
    options = arguments(__doc__, rounds=200).parse_args()
    with tempfile.TemporaryDirectory() as directory:
        taken = uvloop.run(measure(options.rounds, Path(directory)))
    how = {"rounds": options.rounds, "as_root": os.geteuid() == 0}
    least = {f"least_{name}": value for name, value in summary(taken, min).items()}
    return report("start", {**how, **summary(taken, statistics.median), **least}, options)


if __name__ == "__main__":
    raise SystemExit(main())
