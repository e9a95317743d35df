"""An engine that is killed, or replaced while no runner looks: whose fault an end is, and what a job goes on with."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.job import EndReason, Job
from runner.ports import Containers
from runner.records import Outcome
from tests.adapters.containers.docker_boxes import DockerBox, DockerMachine
from tests.adapters.containers.own_engine import OwnEngine, own_engine
from tests.conformance.container_steps import until_it_says
from tests.conformance.docker_harness import DockerHarness
from tests.conformance.executing import executing

pytestmark = [pytest.mark.docker, pytest.mark.integration, pytest.mark.slow]

LOOP = "echo ready; while :; do sleep 0.01; done"
SAVES = ("sh", "-c", f"trap 'exit 0' TERM; {LOOP}")
DIES = ("sh", "-c", LOOP)
FAILS = ("sh", "-c", "echo ready; exit 7")
# Lines that it does not end before the engine does; what follows lasts for longer than an engine takes to start.
COUNT = 60
COUNTS = f"i=0; while [ $i -lt {COUNT} ]; do i=$((i+1)); echo $i; sleep 0.02; done"
DOTS = Job(command=("sh", "-c", f"printf ..; printf : >&2; until [ -e go ]; do sleep 0.01; done; {COUNTS}; echo : >&2"))
TAKEN_DOWN = "the Docker engine was stopped or restarted and took the container down"


@pytest.fixture(scope="module")
def engine() -> Iterator[OwnEngine]:
    with own_engine() as it:
        yield it


def test_a_killed_engine_takes_jobs_down_as_it_starts_again(engine: OwnEngine, tmp_path: Path) -> None:
    """The next engine ends what it finds, and says so in events of its own; no other is to be blamed."""
    harness = DockerHarness(engine.url, engine.image, tmp_path, answer_s=1.0)

    async def main() -> Outcome:
        async with harness.open() as containers, executing(harness, containers, Job(command=SAVES)) as job:
            await job.says("ready")
            await engine.kill()
            engine.start()
            return await job.outcome()

    outcome = asyncio.run(main())
    assert outcome.reason is EndReason.RUNNER_FAULT, outcome.message
    assert outcome.message.startswith(TAKEN_DOWN), outcome.message


async def begun(box: DockerBox, command: tuple[str, ...]) -> str:
    """Start one, and return its name once it is ready."""
    spec = box.spec(*command)
    await box.containers.start(spec)
    await until_it_says(box.containers, spec.name, b"ready")
    return spec.name


async def blamed(box: DockerBox, *names: str) -> list[tuple[int | None, str]]:
    """Return what the next life of the runner finds: each code, and what somebody else had to do with it."""
    next_life: Containers = box.another_life()
    ends = [await next_life.wait(name) for name in names]
    await next_life.close()
    return [(ended.code, ended.by_others.partition(";")[0]) for ended in ends]


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_what_an_engine_took_down_while_no_runner_looked_is_told_by_the_next_life(
    engine: OwnEngine, tmp_path: Path, how: str
) -> None:
    """What had failed by itself before keeps its own end."""

    async def main(box: DockerBox) -> list[tuple[int | None, str]]:
        names = [await begun(box, command) for command in (FAILS, SAVES, DIES)]
        await box.containers.wait(names[0])
        await box.containers.close()
        await (engine.stop() if how == "stopped" else engine.kill())
        engine.start()
        return await blamed(box, *names)

    found = DockerMachine(engine.url, engine.image, tmp_path).run(main)
    assert found == [(7, ""), (0, TAKEN_DOWN), (143, TAKEN_DOWN)]


def test_an_engine_that_forgot_a_start_was_not_restarted(engine: OwnEngine, tmp_path: Path) -> None:
    """On a busy box, what ended by a signal while no runner looked did so by itself, for all that is known."""

    async def main(box: DockerBox) -> list[tuple[int | None, str]]:
        name = await begun(box, ("sh", "-c", "echo ready; kill -TERM $$"))
        await box.containers.close()
        await engine.forget_events()
        return await blamed(box, name)

    assert [(143, "")] == DockerMachine(engine.url, engine.image, tmp_path).run(main)


def test_what_a_job_prints_under_the_next_engine_is_read_whole(engine: OwnEngine, tmp_path: Path) -> None:
    """With live-restore an engine forgets lines that had not ended, and its log lacks what was read already."""
    harness = DockerHarness(engine.url, engine.image, tmp_path, answer_s=1.0)

    async def main() -> tuple[Outcome, str, str, str]:
        engine.configure('{"live-restore": true}')
        await engine.stop()
        engine.start()
        async with harness.open() as containers, executing(harness, containers, DOTS) as job:
            await job.says("..", "stdout")
            await job.says(":", "stderr")
            await engine.kill()
            engine.start()
            (harness.workspace(job.name) / "go").touch()
            return await job.outcome(), await job.text("stdout"), await job.text("stderr"), await job.text("runner")

    outcome, out, err, told = asyncio.run(main())
    assert outcome.reason is EndReason.SUCCEEDED, outcome.message
    assert ("..1\n" + "".join(f"{number}\n" for number in range(2, COUNT + 1)), "::\n") == (out, err)
    assert "the Docker engine was restarted" in told
