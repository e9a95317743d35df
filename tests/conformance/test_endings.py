"""How a job ended, for real in each runtime: one row a way to end, with its reason and what its sentence must say."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec
import pytest

from runner.config import Config
from runner.job import EndReason, Job
from runner.records import Outcome
from runner.units import Duration, Size
from tests.conformance.container_harness import Harness, ProcessHarness
from tests.conformance.container_steps import OBEDIENT, STUBBORN, end
from tests.conformance.docker_harness import DockerHarness
from tests.conformance.executing import MIB, executing, place

pytestmark = pytest.mark.integration

HUNGRY = "held = bytearray(1 << 30)"
NOTHING: Mapping[str, object] = MappingProxyType({})


def sh(script: str, **fields: object) -> Job:
    return msgspec.structs.replace(Job(command=("sh", "-c", script)), **fields)


def python(program: str, **fields: object) -> Job:
    return msgspec.structs.replace(Job(command=("python3", "-c", program)), **fields)


class Way(msgspec.Struct, frozen=True):
    """One way to end: the job, what it ends as, its code, and the words of its sentence."""

    job: Job
    reason: EndReason
    code: int | None
    words: tuple[str, ...]
    steps: tuple[int, ...] = ()
    place: Mapping[str, object] = NOTHING
    log_max: int = 0
    limits_memory: bool = False
    printed: str | None = None


FAILED, OOM = EndReason.FAILED, EndReason.OOM
TINY = {"disk": MIB}
WAYS: Mapping[str, Way] = {
    "success": Way(sh("echo done"), EndReason.SUCCEEDED, 0, ("succeeded",), printed="done\n"),
    "exit code": Way(sh("exit 7"), FAILED, 7, ("exit code 7",)),
    "a high exit code": Way(sh("exit 255"), FAILED, 255, ("exit code 255",)),
    "its own signal": Way(python("import os; os.kill(os.getpid(), 11)"), FAILED, 139, ("signal 11 (SIGSEGV)",)),
    "its own kill": Way(python("import os; os.kill(os.getpid(), 9)"), FAILED, 137, ("signal 9 (SIGKILL)",)),
    "memory": Way(
        python(HUNGRY), OOM, 137, ("out of memory", "limit of 256 MiB", "(peak 25"), limits_memory=True
    ),
    "a child's memory": Way(
        sh(f"python3 -c '{HUNGRY}'; exit 3"), FAILED, 3, ("exit code 3", "a process of it was killed at its"),
        limits_memory=True,
    ),
    "a child's memory, forgiven": Way(
        sh(f"python3 -c '{HUNGRY}'; exit 0"), EndReason.SUCCEEDED, 0, ("succeeded", "memory limit"), limits_memory=True
    ),
    "time": Way(
        sh(STUBBORN, timeout=Duration(1), stop_grace=Duration(0.1)), EndReason.TIMEOUT, 137, ("limit of 1.0 s",)
    ),
    "silence": Way(
        sh(OBEDIENT, silent_for=Duration(0.5)), EndReason.SILENT, 3, ("no output for 0.5",), printed="ready\nstopping\n"
    ),
    "a flood": Way(
        sh("yes 0123456789012345678901234567890123456789"), EndReason.LOG_FLOOD, None, ("printed", "1.0 MiB"),
        log_max=MIB,
    ),
    "a flood of empty lines": Way(
        sh("i=0; while :; do echo; done"), EndReason.LOG_FLOOD, None, ("lines", "128 KiB"), log_max=MIB // 8
    ),
    "a flood and out": Way(
        python("print('x' * (2 << 20))"), EndReason.LOG_FLOOD, None, ("printed", "1.0 MiB"),
        log_max=MIB,
    ),
    "a flood as large as its disk": Way(
        sh("yes longer than a few bytes"), EndReason.LOG_FLOOD, None, ("1.0 MiB",), place=TINY
    ),
    "its disk": Way(
        sh("i=0; while [ $i -lt 9 ]; do head -c 500000 /dev/zero > f$i; i=$((i+1)); done; sleep 60"),
        EndReason.DISK_EXCEEDED, 143, ("its files take 4.", "its disk is 1.0 MiB", "resources.disk"), place=TINY,
    ),
    "no such command": Way(Job(command=("train-nothing",)), FAILED, 127, ("train-nothing",)),
    "steps": Way(
        Job(steps=(("sh", "-c", "echo one > f"), ("cat", "f"))), EndReason.SUCCEEDED, 0, ("succeeded",), (0, 0),
        printed="one\n",
    ),
    "a step that fails": Way(
        Job(steps=(("true",), ("sh", "-c", "exit 4"), ("echo", "never"))), FAILED, 4,
        ("step 2 of 3 failed: exit code 4",), (0, 4), printed="",
    ),
    "steps that keep going": Way(
        Job(steps=(("sh", "-c", "exit 4"), ("no such",), ("echo", "last")), keep_going=True), FAILED, 4,
        ("step 1 of 3 failed: exit code 4; 1 more failed",), (4, 127, 0),
    ),
    "a step's memory": Way(
        Job(steps=(("true",), ("python3", "-c", HUNGRY))), OOM, 137, ("out of memory",), (0, 137), limits_memory=True
    ),
    "a step that is stopped": Way(
        Job(steps=(("sh", "-c", OBEDIENT), ("echo", "never")), timeout=Duration(1)), EndReason.TIMEOUT, None,
        ("limit of 1.0 s",), (3,), printed="ready\nstopping\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_how_it_ended(harness: Harness, way: Way) -> None:
    ends(harness, way)


def test_temporary_files_of_a_process_count_as_its_disk(tmp_path: Path) -> None:
    """Those of a container count as its memory."""
    script = 'for i in 1 2; do head -c 5000000 /dev/zero > "$TMPDIR/$i"; done; sleep 60'
    words = ("its files take", "its disk is 8.0 MiB")
    harness = ProcessHarness(tmp_path)
    try:
        ends(harness, Way(sh(script), EndReason.DISK_EXCEEDED, None, words, place={"disk": 8 * MIB}))
    finally:
        asyncio.run(harness.clean())


def ends(harness: Harness, way: Way) -> None:
    """Run a job and look how it ended."""
    if way.limits_memory and not harness.limits_memory:
        pytest.skip("this box cannot limit memory")

    async def main() -> tuple[Outcome, str, str]:
        async with (
            harness.open() as containers,
            executing(
                harness, containers, way.job, place(**way.place), config=Config(log_max=Size(way.log_max))
            ) as job,
        ):
            outcome = await job.outcome()
            assert await containers.list_ours() == ()
            return outcome, await job.text("stdout"), await job.text()

    outcome, printed, text = asyncio.run(main())
    assert (way.reason, way.steps) == (outcome.reason, outcome.steps), outcome.message
    assert way.code is None or way.code == outcome.exit_code
    assert [word for word in way.words if word not in outcome.message] == [], outcome.message
    assert way.printed is None or way.printed == printed
    assert not way.log_max or len(text) <= way.log_max


@pytest.mark.parametrize("reason", [EndReason.CANCELLED, EndReason.PREEMPTED])
def test_who_is_told_to_end_is_gone_whole(harness: Harness, reason: EndReason) -> None:
    """Also what left its parent and its session, and ignores SIGTERM."""
    lost = "setsid sh -c 'trap \"\" TERM; while :; do echo x >> beats; sleep 0.01; done' & wait"
    job = sh(f"({lost}) & until [ -e beats ]; do sleep 0.01; done; {STUBBORN}", stop_grace=Duration(0.2))

    async def main() -> Outcome:
        async with harness.open() as containers, executing(harness, containers, job) as it:
            await it.says("ready")
            it.stop(reason)
            outcome = await it.outcome()
            beats = harness.workspace(it.name) / "beats"
            size = beats.stat().st_size
            await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=0.1)
            assert size == beats.stat().st_size, "a child lives on"
            return outcome

    outcome = asyncio.run(main())
    assert (reason, 137) == (outcome.reason, outcome.exit_code)


def test_steps_go_on_without_the_runner_and_their_codes_are_there(harness: Harness) -> None:
    """Whatever a step writes where codes are kept: the end of the job is that of its shell."""
    forge = "for f in /run/runner/steps /proc/$PPID/fd/5; do echo 0 2> /dev/null >> $f; done; echo junk >&5; echo ready"
    wait = "until [ -e go ]; do sleep 0.01; done; exit 9"
    job = Job(steps=(("true",), ("sh", "-c", f"({forge}) 2> /dev/null; true"), ("sh", "-c", wait), ("echo", "never")))

    async def main() -> Outcome:
        async with harness.open() as containers, executing(harness, containers, job) as it:
            await it.says("ready")
        async with harness.open() as containers, executing(harness, containers, job, life=it.world) as again:
            (harness.workspace(it.name) / "go").touch()
            return await again.outcome()

    outcome = asyncio.run(main())
    assert (EndReason.FAILED, 9) == (outcome.reason, outcome.exit_code), outcome.message
    assert outcome.steps[0] == 0
    if not isinstance(harness, DockerHarness):
        assert (0, 0, 9) == outcome.steps


def test_a_job_does_not_outlive_its_box(harness: Harness) -> None:
    """Whatever the runtime makes of what it finds after the box went down and up again."""
    job = sh("until [ -e go ]; do sleep 0.01; done; exit 9")

    async def main() -> Outcome:
        async with harness.open() as containers, executing(harness, containers, job) as it:
            await it.says("running", "event")
        async with harness.open() as containers:
            (harness.workspace(it.name) / "go").touch()
            await end(containers, it.name)
            after_boot = dataclasses.replace(it.world, up_s=lambda: 60.0)
            async with executing(harness, containers, job, life=after_boot) as again:
                return await again.outcome()

    outcome = asyncio.run(main())
    assert (EndReason.RUNNER_FAULT, 9) == (outcome.reason, outcome.exit_code)
    assert "the box went down" in outcome.message
