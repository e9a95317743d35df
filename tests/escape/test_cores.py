"""Whether a job that was given cores can take others: held in a container, open to a process job."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
import pytest

from runner.records import Grant, Place
from tests.conformance.container_harness import Harness, ProcessHarness
from tests.conformance.container_steps import output
from tests.conformance.docker_harness import DockerHarness

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="there is no other core"),
]
TAKE_ALL = "import os; os.sched_setaffinity(0, range(os.cpu_count())); print(len(os.sched_getaffinity(0)))"


def cores_taken(harness: Harness) -> int:
    place = Place(cpus=1, cores=(0,), memory=256 << 20, disk=1 << 30)
    spec = msgspec.structs.replace(harness.spec("pinned", "python3", "-c", TAKE_ALL), grant=Grant((place,)))

    async def main() -> int:
        async with harness.open() as containers:
            await containers.start(spec)
            return int((await output(containers, "pinned"))["stdout"])

    try:
        return asyncio.run(main())
    finally:
        asyncio.run(harness.clean())


@pytest.mark.docker
def test_a_container_keeps_to_its_cores(docker_url: str, python_image: str, tmp_path: Path) -> None:
    assert cores_taken(DockerHarness(docker_url, python_image, tmp_path)) == 1


def test_a_process_job_keeps_to_its_cores_by_its_own_will(tmp_path: Path) -> None:
    """As SECURITY.md says."""
    assert cores_taken(ProcessHarness(tmp_path)) == os.cpu_count()
