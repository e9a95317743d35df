"""What `doctor` sees of a Docker engine."""

from pathlib import Path

import pytest

from adapters.containers.docker_look import containers_of_others, engine_version
from runner.cli.check_services import docker
from runner.config import Config
from runner.errors import Unavailable
from tests.adapters.containers.docker_boxes import DockerBox, DockerMachine


def test_without_an_engine_it_names_the_url(tmp_path: Path) -> None:
    """Neither a missing socket nor a dead port hangs or leaves a traceback."""
    for url in (f"unix://{tmp_path}/docker.sock", "tcp://127.0.0.1:1"):
        with pytest.raises(Unavailable, match=f"no Docker engine answers at {url}"):
            engine_version(url)


@pytest.mark.docker
def test_containers_of_another_box_are_named(machine: DockerMachine, tmp_path: Path) -> None:
    """They are somebody's: told, each of them, and never touched."""

    async def scenario(box: DockerBox) -> None:
        specs = [box.spec("sleep", "600") for _ in range(5)]
        for spec in specs:
            await box.create_only(spec)
        names = {box.called(spec.name) for spec in specs}
        assert names <= set(containers_of_others(machine.url, "another"))
        assert not names & set(containers_of_others(machine.url, box.id))
        *_, check = docker(Config(docker_host=machine.url, state_dir=str(tmp_path)))
        assert (check.check, check.state) == ("containers", "warn")
        assert all(name in check.found for name in names)

    assert engine_version(machine.url)
    machine.run(scenario)
