"""What a grant means for processes: limits of the kernel, cores, and which cards the job is told of."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from adapters.containers.cgroup import Cgroups
from adapters.containers.command import OPEN_FILES, PROCESSES
from runner.ports import Exit
from runner.records import Grant, GrantedGpu, Place
from tests.conformance.container_harness import ProcessHarness
from tests.conformance.container_steps import end, output

pytestmark = pytest.mark.integration

CARDS = (GrantedGpu(0, "GPU-aaaa"), GrantedGpu(3, "GPU-dddd", simulated=True))
RLIMITS = """
import resource as r
for name in ("CORE", "FSIZE", "NOFILE", "NPROC", "AS"):
    print(name, *r.getrlimit(getattr(r, "RLIMIT_" + name)))
"""


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[ProcessHarness]:
    made = ProcessHarness(tmp_path)
    yield made
    asyncio.run(made.clean())


@pytest.fixture
def ungrouped(tmp_path: Path) -> Iterator[ProcessHarness]:
    made = ProcessHarness(tmp_path, cgroups=Cgroups({}))
    yield made
    asyncio.run(made.clean())


def run(harness: ProcessHarness, place: Place, *command: str, shm: int = 0) -> tuple[dict[str, bytes], Exit]:
    async def main() -> tuple[dict[str, bytes], Exit]:
        async with harness.open() as containers:
            spec = msgspec.structs.replace(harness.spec("job", *command), grant=Grant(places=(place,)), shm=shm)
            await containers.start(spec)
            return await output(containers, "job"), await end(containers, "job")

    return asyncio.run(main())


def rlimits(harness: ProcessHarness, place: Place) -> dict[str, list[int]]:
    written, _ = run(harness, place, "python3", "-c", RLIMITS)
    lines = (line.split() for line in written["stdout"].decode().splitlines())
    return {name: [int(value) for value in values] for name, *values in lines}


def test_every_process_of_a_job_has_limits_of_its_own(harness: ProcessHarness) -> None:
    found = rlimits(harness, Place(memory=256 << 20, disk=10 << 20))
    assert found["CORE"] == [0, 0]
    assert found["FSIZE"] == [10 << 20] * 2
    assert 0 < found["NOFILE"][0] <= OPEN_FILES
    if os.geteuid() == 0:
        assert found["NPROC"] == [PROCESSES] * 2


def test_address_space_is_bounded_where_memory_cannot_be(harness: ProcessHarness, ungrouped: ProcessHarness) -> None:
    memory = Place(memory=512 << 20)
    assert rlimits(ungrouped, memory)["AS"] == [512 << 20] * 2


def test_address_space_is_left_alone_where_memory_is_bounded_or_a_card_is_granted(
    harness: ProcessHarness, ungrouped: ProcessHarness
) -> None:
    """CUDA maps far more addresses than a job may have memory."""
    if harness.limits_memory:
        assert rlimits(harness, Place(memory=512 << 20))["AS"] == [-1, -1]
    asyncio.run(harness.clean())
    assert rlimits(ungrouped, Place(memory=512 << 20, gpus=CARDS))["AS"] == [-1, -1]


def test_a_file_larger_than_the_granted_disk_ends_the_job(harness: ProcessHarness) -> None:
    _, ended = run(harness, Place(disk=1 << 20), "sh", "-c", "exec head -c 2000000 /dev/zero > big")
    assert ended.code == 128 + 25
    assert (harness.workspace("job") / "big").stat().st_size == 1 << 20


def test_a_job_is_told_of_its_cards_and_of_no_others(harness: ProcessHarness) -> None:
    tell = ("sh", "-c", 'echo "$CUDA_VISIBLE_DEVICES"')
    assert run(harness, Place(gpus=CARDS), *tell)[0]["stdout"] == b"GPU-aaaa,GPU-dddd\n"
    asyncio.run(harness.clean())
    assert run(harness, Place(), *tell)[0]["stdout"] == b"\n"


def test_a_job_begins_on_the_cores_that_it_was_given(harness: ProcessHarness) -> None:
    core = max(os.sched_getaffinity(0))
    written, _ = run(harness, Place(cores=(core,)), "python3", "-c", "import os; print(os.sched_getaffinity(0))")
    assert written["stdout"] == f"{{{core}}}\n".encode()


def test_shared_memory_is_as_large_as_asked_for(harness: ProcessHarness) -> None:
    if harness.way != "view":
        pytest.skip("jobs share the box's shared memory here")
    written, _ = run(harness, Place(), "df", "--output=size", "/dev/shm", shm=8 << 20)
    assert written["stdout"].split()[-1] == b"8192"


def test_a_job_dies_before_the_runner_when_the_box_runs_out_of_memory(harness: ProcessHarness) -> None:
    written, _ = run(harness, Place(), "cat", "/proc/self/oom_score_adj")
    assert int(written["stdout"]) >= 500
