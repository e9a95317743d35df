"""An engine that goes away under a job: what the executor does meanwhile, and how the job ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.containers.docker_engine import Engine
from runner.job import EndReason, Job
from runner.records import Outcome
from runner.units import Duration
from tests.adapters.containers.own_engine import OwnEngine, own_engine
from tests.conformance.container_steps import STUBBORN, lives
from tests.conformance.docker_harness import DockerHarness
from tests.conformance.executing import executing

pytestmark = [pytest.mark.docker, pytest.mark.integration, pytest.mark.slow]

SAVES = Job(command=("sh", "-c", "trap 'echo saved; exit 0' TERM; echo ready; while :; do sleep 0.01; done"))
COUNTS = Job(command=("sh", "-c", "echo ready; until [ -e go ]; do sleep 0.01; done; echo done; exit 7"))


@pytest.fixture(scope="module")
def engine() -> Iterator[OwnEngine]:
    with own_engine() as it:
        yield it


@pytest.fixture
def harness(engine: OwnEngine, tmp_path: Path) -> DockerHarness:
    return DockerHarness(engine.url, engine.image, tmp_path, answer_s=1.0)


def test_an_engine_that_takes_a_job_down_is_the_boxs_fault(engine: OwnEngine, harness: DockerHarness) -> None:
    """Whatever the job made of it: it did not end by itself."""

    async def main() -> Outcome:
        async with harness.open() as containers, executing(harness, containers, SAVES) as job:
            await job.says("ready")
            await engine.stop()
            engine.start()
            return await job.outcome()

    outcome = asyncio.run(main())
    assert outcome.reason is EndReason.RUNNER_FAULT, outcome.message
    assert "Docker engine" in outcome.message


def test_a_job_that_outlived_its_engine_ends_by_itself(engine: OwnEngine, harness: DockerHarness) -> None:
    """The engine reads nothing of what it printed meanwhile, once it has ended; its log says so."""

    async def main() -> tuple[Outcome, str]:
        engine.configure('{"live-restore": true}')
        await engine.stop()
        engine.start()
        async with harness.open() as containers, executing(harness, containers, COUNTS) as job:
            await job.says("ready")
            await engine.stop()
            (harness.workspace(job.name) / "go").touch()
            engine.start()
            outcome = await job.outcome()
            engine.configure("{}")
            await engine.stop()
            engine.start()
            return outcome, await job.text("stdout", "runner")

    outcome, text = asyncio.run(main())
    assert (EndReason.FAILED, "exit code 7") == (outcome.reason, outcome.message)
    assert text == "ready\ndone\n" or "while the Docker engine was away may be missing" in text


def test_limits_count_on_while_the_engine_hangs_and_nothing_runs_beyond_them(
    engine: OwnEngine, harness: DockerHarness
) -> None:
    """It is told once; once the engine goes on, how the job ended is known."""
    job = Job(command=("sh", "-c", STUBBORN), timeout=Duration(3), stop_grace=Duration(0.1))

    async def main() -> tuple[Outcome, str]:
        async with harness.open() as containers, executing(harness, containers, job) as it:
            await it.says("ready")
            pid = await first_process(engine.url, harness.called(it.name))
            engine.freeze()
            try:
                await it.says("its limits count on", "runner")
                while lives(pid):
                    await asyncio.sleep(0.05)
            finally:
                engine.thaw()
            await it.says("answers again", "runner")
            return await it.outcome(), await it.text("runner")

    outcome, text = asyncio.run(asyncio.wait_for(main(), 60))
    assert (EndReason.TIMEOUT, 137) == (outcome.reason, outcome.exit_code), outcome.message
    assert (1, 1) == (text.count("limits count on"), text.count("answers again"))


def test_an_engine_that_hung_as_a_job_ended_on_a_busy_box_took_nothing_down(
    engine: OwnEngine, harness: DockerHarness
) -> None:
    """The engine remembers its last 256 events, so that of a job among others it may have forgotten the start."""

    async def main() -> Outcome:
        async with harness.open() as containers, executing(harness, containers, COUNTS) as job:
            await job.says("ready")
            await engine.forget_events()
            engine.freeze()
            try:
                (harness.workspace(job.name) / "go").touch()
                await job.says("its limits count on", "runner")
            finally:
                engine.thaw()
            return await job.outcome()

    outcome = asyncio.run(asyncio.wait_for(main(), 60))
    assert (EndReason.FAILED, "exit code 7") == (outcome.reason, outcome.message)


async def first_process(url: str, name: str) -> int:
    engine = Engine(url)
    async with engine.call("look") as docker:
        found = await docker.containers.container(name).show()
    await engine.close()
    return int(found["State"]["Pid"])
