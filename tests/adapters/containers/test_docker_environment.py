"""An image's own environment on a real engine: what could change what runs outside of the container is taken out."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import pytest

from adapters.containers.docker_engine import Engine
from runner.errors import RuntimeMissing
from tests.adapters.containers.docker_boxes import DockerBox, DockerMachine

pytestmark = [pytest.mark.docker, pytest.mark.integration]
HOSTILE = {
    "LD_PRELOAD": "/proc/self/cwd/poc.so", "LD_LIBRARY_PATH": "/usr/lib:", "PYTHONSTARTUP": "/x.py",
    "NVIDIA_VISIBLE_DEVICES": "all", "CUDA_VISIBLE_DEVICES": "0", "RUNNER_JOB_ID": "fake", "GREETING": "hello",
}  # fmt: skip
TAKEN = {"LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONSTARTUP", "RUNNER_JOB_ID", "CUDA_VISIBLE_DEVICES"}
HONEST = {"LD_LIBRARY_PATH": "/usr/local/nvidia/lib:/usr/local/nvidia/lib64", "NVIDIA_REQUIRE_CUDA": "cuda>=12.4"}


async def image_with(box: DockerBox, env: Mapping[str, str], tag: str) -> str:
    """Make an image that sets variables, as a Dockerfile's ENV does."""
    base = box.spec("true")
    await box.create_raw(base.name, {"Image": box.image, "Cmd": ["true"]})
    engine = Engine(box.url)
    config = {"Env": [f"{name}={value}" for name, value in env.items()]}
    async with engine.call("commit an image") as docker:
        await docker.containers.container(base.name).commit(repository=tag, tag="1", config=config)
    await engine.close()
    await box.delete_raw(base.name)
    return f"{tag}:1"


async def variables(box: DockerBox, image: str, env: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """Return the environment that a job of this image has."""
    _, output = await box.run(box.spec("env", image=image, env=dict(env)))
    return dict(line.split("=", 1) for line in output["stdout"].decode().splitlines())


def test_what_a_hostile_image_sets_does_not_reach_the_container(machine: DockerMachine) -> None:
    async def scenario(box: DockerBox) -> None:
        env = await variables(box, await image_with(box, HOSTILE, "runner-test-hostile"), env={"EPOCHS": "3"})
        assert {"LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONSTARTUP", "RUNNER_JOB_ID", "CUDA_VISIBLE_DEVICES"} & set(
            env
        ) == set()
        assert (env["NVIDIA_VISIBLE_DEVICES"], env["GREETING"], env["EPOCHS"]) == ("void", "hello", "3")

    machine.run(scenario)


def test_what_cuda_images_need_stays(machine: DockerMachine) -> None:
    async def scenario(box: DockerBox) -> None:
        env = await variables(box, await image_with(box, HONEST, "runner-test-honest"))
        assert HONEST.items() <= env.items()

    machine.run(scenario)


def test_a_tag_that_means_another_image_meanwhile_is_looked_at_anew(machine: DockerMachine) -> None:
    async def scenario(box: DockerBox) -> None:
        image = await image_with(box, HONEST, "runner-test-moving")
        assert "LD_LIBRARY_PATH" in await variables(box, image)
        assert image == await image_with(box, HOSTILE, "runner-test-moving")
        assert "LD_PRELOAD" not in await variables(box, image)

    machine.run(scenario)


def test_a_container_that_kept_such_a_variable_is_never_started(machine: DockerMachine) -> None:
    """Where the engine does not take it out, or the tag moved between the look and the creation."""

    async def scenario(box: DockerBox) -> None:
        spec = box.spec("true", image=await image_with(box, HOSTILE, "runner-test-hostile"))
        await box.create_only(spec)
        with pytest.raises(RuntimeMissing, match="LD_LIBRARY_PATH, LD_PRELOAD, PYTHONSTARTUP"):
            await box.containers.start(spec)
        assert await box.containers.list_ours() == ()

    machine.run(scenario)
