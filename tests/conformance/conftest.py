"""The adapters under test, one fixture a port."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.container_harness import Harness, ProcessHarness
from tests.conformance.docker_harness import DockerHarness
from tests.conformance.queue_harness import FolderHarness, QueueHarness
from tests.conformance.results_harness import FolderResultsHarness, ResultsHarness


@pytest.fixture(params=["process", pytest.param("docker", marks=pytest.mark.docker)])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    """Give each container runtime in turn, and end whatever a test left."""
    made: Harness = _docker(request, tmp_path) if request.param == "docker" else ProcessHarness(tmp_path)
    yield made
    asyncio.run(made.clean())


def _docker(request: pytest.FixtureRequest, directory: Path) -> DockerHarness:
    url, image = (request.getfixturevalue(name) for name in ("docker_url", "python_image"))
    return DockerHarness(url, image, directory)


@pytest.fixture(params=[FolderHarness])
def queue_harness(request: pytest.FixtureRequest, tmp_path: Path) -> QueueHarness:
    """Give each queue service in turn."""
    made: QueueHarness = request.param(tmp_path)
    return made


@pytest.fixture(params=[FolderResultsHarness])
def results_harness(request: pytest.FixtureRequest, tmp_path: Path) -> ResultsHarness:
    """Give each result backend in turn."""
    made: ResultsHarness = request.param(tmp_path)
    return made
