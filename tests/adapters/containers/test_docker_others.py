"""What others do to a job's container on a real engine: each ends by a reason that says so, the box's fault."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters.containers.docker_engine import Engine
from runner.job import EndReason, Job
from runner.records import Outcome
from runner.units import Duration
from tests.conformance.container_steps import OBEDIENT
from tests.conformance.docker_harness import DockerHarness
from tests.conformance.executing import Running, executing

pytestmark = [pytest.mark.docker, pytest.mark.integration]

Meddle = Callable[[Any], Awaitable[object]]
OBEYS = Job(command=("sh", "-c", OBEDIENT), stop_grace=Duration(1))


@pytest.fixture
def harness(docker_url: str, busybox_image: str, tmp_path: Path) -> DockerHarness:
    return DockerHarness(docker_url, busybox_image, tmp_path)


async def meddle(url: str, name: str, what: Meddle) -> None:
    """Do something to a container as anybody could."""
    engine = Engine(url)
    async with engine.call("meddle") as docker:
        await what(docker.containers.container(name))
    await engine.close()


def ended(
    harness: DockerHarness, url: str, job: Job, what: Meddle, then: Callable[[Running], None] | None = None
) -> Outcome:
    """Run a job, do something to its container once it says that it is ready, and return how it ended."""

    async def main() -> Outcome:
        async with harness.open() as containers, executing(harness, containers, job) as it:
            await it.says("ready")
            await meddle(url, harness.called(it.name), what)
            if then is not None:
                then(it)
            outcome = await it.outcome()
            assert await containers.list_ours() == ()
            return outcome

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("what", "codes", "words"),
    [
        (lambda it: it.stop(t=5), {3}, "somebody else ended its container with SIGTERM, by `docker stop`"),
        (lambda it: it.kill(), {137}, "somebody else ended its container with SIGKILL"),
        (lambda it: it.kill(signal="SIGINT"), {130}, "somebody else ended its container with SIGINT"),
        (lambda it: it.delete(force=True), {None, 137}, "somebody else"),
    ],
    ids=["stopped", "killed", "interrupted", "removed"],
)
def test_what_others_end_is_no_failure_of_the_job(
    harness: DockerHarness, docker_url: str, what: Meddle, codes: set[int | None], words: str
) -> None:
    outcome = ended(harness, docker_url, OBEYS, what)
    assert outcome.reason is EndReason.RUNNER_FAULT, outcome.message
    assert outcome.exit_code in codes
    assert words in outcome.message


def test_a_signal_that_ended_nothing_is_not_blamed(harness: DockerHarness, docker_url: str) -> None:
    """Somebody may well ask a job to write down how far it is."""
    job = Job(command=("sh", "-c", "trap 'exit 5' USR1; echo ready; while :; do sleep 0.01; done"))
    outcome = ended(harness, docker_url, job, lambda it: it.kill(signal="SIGUSR1"))
    assert (EndReason.FAILED, "exit code 5") == (outcome.reason, outcome.message)


@pytest.mark.parametrize(
    "changes", [{"timeout": Duration(2)}, {"silent_for": Duration(1)}], ids=["time limit", "silence"]
)
def test_a_job_that_somebody_paused_did_not_take_its_time_by_itself(
    harness: DockerHarness, docker_url: str, changes: dict[str, Duration]
) -> None:
    job = msgspec.structs.replace(OBEYS, **changes)
    outcome = ended(harness, docker_url, job, lambda it: it.pause())
    assert outcome.reason is EndReason.RUNNER_FAULT
    assert "but somebody else had paused its container" in outcome.message


def test_a_paused_job_can_be_cancelled(harness: DockerHarness, docker_url: str) -> None:
    outcome = ended(harness, docker_url, OBEYS, lambda it: it.pause(), lambda it: it.stop(EndReason.CANCELLED))
    assert (EndReason.CANCELLED, "cancelled") == (outcome.reason, outcome.message)


def test_a_renamed_container_is_the_same(harness: DockerHarness, docker_url: str) -> None:
    """Also for the next life of the runner, which starts it no second time."""
    job = Job(command=("sh", "-c", "echo $$ >> starts; echo ready; until [ -e go ]; do sleep 0.01; done; exit 6"))

    async def main() -> tuple[Outcome, str]:
        async with harness.open() as containers, executing(harness, containers, job) as it:
            await it.says("ready")
            await meddle(docker_url, harness.called(it.name), lambda found: found.rename("somebody-elses-choice"))
        async with harness.open() as containers, executing(harness, containers, job, life=it.world) as again:
            assert await containers.list_ours() == (it.name,)
            (harness.workspace(it.name) / "go").touch()
            outcome = await again.outcome()
            assert await containers.list_ours() == ()
            return outcome, (harness.workspace(it.name) / "starts").read_text()

    outcome, starts = asyncio.run(main())
    assert (EndReason.FAILED, 6, 1) == (outcome.reason, outcome.exit_code, len(starts.splitlines()))


def test_a_stopped_tree_is_killed_after_its_grace(harness: DockerHarness, docker_url: str) -> None:
    job = msgspec.structs.replace(OBEYS, command=("sh", "-c", "echo ready; kill -STOP 0; echo on"))
    outcome = ended(harness, docker_url, job, lambda it: it.show(), lambda it: it.stop(EndReason.CANCELLED))
    assert (EndReason.CANCELLED, 137) == (outcome.reason, outcome.exit_code)
