"""Machines with a Docker engine, for tests of its containers."""

from pathlib import Path

import pytest

from tests.adapters.containers.docker_boxes import DockerMachine


@pytest.fixture
def machine(docker_url: str, busybox_image: str, tmp_path: Path) -> DockerMachine:
    """Return an engine whose image has a shell."""
    return DockerMachine(docker_url, busybox_image, tmp_path)


@pytest.fixture
def python_machine(docker_url: str, python_image: str, tmp_path: Path) -> DockerMachine:
    """Return an engine whose image has Python."""
    return DockerMachine(docker_url, python_image, tmp_path)
