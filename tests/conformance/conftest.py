"""The adapters under test, one fixture a port."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adapters.spool import FileSpool
from runner.ports import Spool
from tests.conformance.container_harness import Harness, ProcessHarness
from tests.conformance.docker_harness import DockerHarness
from tests.conformance.queue_harness import FolderHarness, QueueHarness
from tests.conformance.rabbit_harness import ClassicRabbitHarness, RabbitHarness
from tests.conformance.redis_harness import RedisHarness
from tests.conformance.redis_results_harness import RedisResultsHarness
from tests.conformance.results_harness import FolderResultsHarness, ResultsHarness
from tests.conformance.spool_harness import Opener
from tests.conformance.sqs_harness import LocalStackHarness, MotoHarness


@pytest.fixture(params=["process", pytest.param("docker", marks=pytest.mark.docker)])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    """Give each container runtime in turn, and end whatever a test left."""
    made: Harness = _docker(request, tmp_path) if request.param == "docker" else ProcessHarness(tmp_path)
    yield made
    asyncio.run(made.clean())


def _docker(request: pytest.FixtureRequest, directory: Path) -> DockerHarness:
    url, image = (request.getfixturevalue(name) for name in ("docker_url", "python_image"))
    return DockerHarness(url, image, directory)


AnyHarness = FolderHarness | RedisHarness | RabbitHarness | LocalStackHarness | MotoHarness
QUEUES: Mapping[str, type[AnyHarness]] = {
    "folder": FolderHarness,
    "redis": RedisHarness,
    "rabbitmq": RabbitHarness,
    "rabbitmq-classic": ClassicRabbitHarness,
    "sqs-localstack": LocalStackHarness,
    "sqs-moto": MotoHarness,
}
FLAWS: Mapping[str, frozenset[str]] = {"sqs-moto": frozenset({"one receiver"})}
"""What a stand-in for a service gets wrong at times: this one gives a message to two that ask at the same moment."""
BROKERS = frozenset(QUEUES) - {"folder"}
"""Those that are a real service, which has to be there."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test of queues each service that is able to do what the test is marked to need."""
    if "queue_harness" in metafunc.fixturenames:
        needed = {need for mark in metafunc.definition.iter_markers("able") for need in mark.args}
        sound = {need for mark in metafunc.definition.iter_markers("sound") for need in mark.args}
        able = [name for name in QUEUES if needed <= QUEUES[name].able and not sound & FLAWS.get(name, frozenset())]
        marked = [pytest.param(name, marks=pytest.mark.broker) if name in BROKERS else name for name in able]
        metafunc.parametrize("queue_harness", marked, indirect=True)


@pytest.fixture
def queue_harness(request: pytest.FixtureRequest, tmp_path: Path) -> QueueHarness:
    """Open one queue service."""
    return QUEUES[request.param](tmp_path)


@pytest.fixture(params=[FolderResultsHarness, pytest.param(RedisResultsHarness, marks=pytest.mark.broker)])
def results_harness(request: pytest.FixtureRequest, tmp_path: Path) -> ResultsHarness:
    """Give each result backend in turn."""
    made: ResultsHarness = request.param(tmp_path)
    return made


@pytest.fixture
def open_spool(tmp_path: Path) -> Opener:
    """Open the same spool, as often as a test likes."""
    ticks = itertools.count(1_700_000_000_000_000_000)

    @asynccontextmanager
    async def opened() -> AsyncIterator[Spool]:
        spool = FileSpool(str(tmp_path / "spool"), lambda: next(ticks))
        try:
            yield spool
        finally:
            await spool.close()

    return opened
