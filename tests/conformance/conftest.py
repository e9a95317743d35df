"""The adapters under test, one fixture a port."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.container_harness import Harness, ProcessHarness
from tests.conformance.queue_harness import FolderHarness, QueueHarness
from tests.conformance.results_harness import FolderResultsHarness, ResultsHarness


@pytest.fixture(params=["process"])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    """Give each container runtime in turn, and end whatever a test left."""
    made: Harness = ProcessHarness(tmp_path)
    yield made
    asyncio.run(made.clean())


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
