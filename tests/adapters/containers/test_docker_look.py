"""What `doctor` sees of a Docker engine."""

from pathlib import Path

import pytest

from adapters.containers.docker_look import containers_of_others, engine_version
from runner.errors import Unavailable
from tests.adapters.containers.docker_boxes import DockerBox, DockerMachine


def test_without_an_engine_it_names_the_url(tmp_path: Path) -> None:
    """Neither a missing socket nor a dead port hangs or leaves a traceback."""
    for url in (f"unix://{tmp_path}/docker.sock", "tcp://127.0.0.1:1"):
        with pytest.raises(Unavailable, match=f"no Docker engine answers at {url}"):
            engine_version(url)


@pytest.mark.docker
def test_containers_of_another_box_are_named(machine: DockerMachine) -> None:
    """They are somebody's: told, never touched."""

    async def scenario(box: DockerBox) -> None:
        spec = box.spec("sleep", "600")
        await box.create_only(spec)
        assert spec.name in containers_of_others(machine.url, "another")
        assert spec.name not in containers_of_others(machine.url, box.id)

    assert engine_version(machine.url)
    machine.run(scenario)
