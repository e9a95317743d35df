"""What containers are called: two boxes never meet, and what somebody renames is found."""

from __future__ import annotations

import msgspec
import pytest

from adapters.containers.docker_engine import Engine
from tests.adapters.containers.docker_boxes import DockerBox, DockerMachine, collect_until

pytestmark = [pytest.mark.docker, pytest.mark.integration]


def test_two_boxes_on_one_engine_may_run_the_same_attempt(machine: DockerMachine) -> None:
    """One box died, its container stands there still, and another box has the job now."""

    async def scenario(box: DockerBox) -> None:
        spec = box.spec("sleep", "60")
        await box.containers.start(spec)
        other = DockerBox(box.url, box.image, box.directory / "other")
        try:
            await other.containers.start(msgspec.structs.replace(spec, command=("true",)))
            assert (await other.containers.wait(spec.name)).code == 0
            await other.containers.remove(spec.name)
            assert await other.containers.list_ours() == ()
            assert await box.containers.list_ours() == (spec.name,)
            assert (await box.inspect(spec.name))["State"]["Running"]
        finally:
            await other.remove_all()
            await other.containers.close()

    machine.run(scenario)


def test_a_container_that_somebody_renamed_is_still_ours(machine: DockerMachine) -> None:
    async def scenario(box: DockerBox) -> None:
        spec = box.spec("sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done")
        await box.containers.start(spec)
        await collect_until(box.containers, spec.name, len(b"ready\n"), {})
        engine = Engine(box.url)
        async with engine.call("rename") as docker:
            await docker.containers.container(box.called(spec.name)).rename("somebody-s-own-name")
        await engine.close()
        assert await box.containers.list_ours() == (spec.name,)
        assert (await box.containers.start(spec)).started_at > 0, "it is not started twice"
        await box.containers.stop(spec.name, 10.0)
        assert (await box.containers.wait(spec.name)).code == 3
        await box.containers.remove(spec.name)
        assert await box.containers.list_ours() == ()

    machine.run(scenario)
