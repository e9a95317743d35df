"""Machines with a Docker engine, for tests of its containers."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.containers.docker_boxes import DockerMachine
from tests.adapters.containers.walled import Walled, WalledMachine, obstacle, walled_engine
from tests.services.docker import PYTHON_IMAGE


@pytest.fixture
def machine(docker_url: str, busybox_image: str, tmp_path: Path) -> DockerMachine:
    """Return an engine whose image has a shell."""
    return DockerMachine(docker_url, busybox_image, tmp_path)


@pytest.fixture
def python_machine(docker_url: str, python_image: str, tmp_path: Path) -> DockerMachine:
    """Return an engine whose image has Python."""
    return DockerMachine(docker_url, python_image, tmp_path)


@pytest.fixture(scope="session")
def walled() -> Iterator[Walled]:
    """Return an engine with a packet filter and remapped users, in network namespaces of its own."""
    reason = obstacle()
    if reason:
        pytest.skip(f"no network namespaces: {reason}")
    directory = tempfile.TemporaryDirectory(prefix="rt-walled-", ignore_cleanup_errors=True)
    with directory as path, walled_engine(Path(path)) as engine:
        yield engine


@pytest.fixture
def walled_machine(walled: Walled, tmp_path: Path) -> WalledMachine:
    """Return that engine with the box that it is on."""
    return WalledMachine(walled.url, PYTHON_IMAGE, tmp_path, walled)
