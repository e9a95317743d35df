"""What containers are called: two boxes never meet."""

from __future__ import annotations

import msgspec
import pytest

from adapters.containers.docker_engine import Engine
from adapters.containers.docker_state import LABEL_BOX, LABEL_NAME
from runner.errors import Unavailable
from tests.adapters.containers.docker_boxes import DockerBox, DockerMachine

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


def test_a_step_of_an_image_build_is_nobodys_job_whatever_its_labels_say(machine: DockerMachine) -> None:
    """Images and Dockerfiles choose the labels of a build's steps: one named like a job would be taken for it."""

    async def scenario(box: DockerBox) -> None:
        spec = box.spec("true")
        labels = {LABEL_BOX: box.id, LABEL_NAME: spec.name}
        step = {"Image": box.image, "Cmd": ["sleep", "60"], "Labels": labels, "Volumes": {"/run/runner": {}}}
        await box.create_raw(f"step-{box.id}", step)
        assert (None, ()) == (await box.containers.adopt(spec.name), await box.containers.list_ours())
        ended, _ = await box.run(spec)
        assert 0 == ended.code
        await box.containers.remove(spec.name)
        await box.delete_raw(f"step-{box.id}")

    machine.run(scenario)


def test_what_is_removed_is_the_newest_of_a_name(machine: DockerMachine) -> None:
    """Others removed the one that was known, and the next try to start it came no further than to make it."""

    async def scenario(box: DockerBox) -> None:
        spec = box.spec("true")
        await box.containers.start(spec)
        await box.delete_raw(box.called(spec.name))
        engine = Engine(box.url)
        async with engine.call("be in the way") as docker:
            await docker.networks.create({"Name": f"runner-{box.id[:8]}-web", "Labels": {LABEL_BOX: box.id}})
            with pytest.raises(Unavailable, match="of another owner is in the way"):
                await box.containers.start(msgspec.structs.replace(spec, network="web"))
            assert await box.containers.list_ours() == (spec.name,)
            await box.containers.remove(spec.name)
            assert await box.containers.list_ours() == ()
        await engine.close()

    machine.run(scenario)
