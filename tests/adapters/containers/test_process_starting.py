"""The starter of process jobs: starts once whatever is killed when, hands over nothing of the runner's."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.containers.control import Control
from adapters.files import names_in
from runner.errors import BadInput, OutOfSpace, Unavailable
from runner.ports import Exit
from tests.conformance.container_harness import ProcessHarness
from tests.conformance.container_steps import LIMIT_S, STUBBORN, end, lives, output, ran, until_it_says

pytestmark = pytest.mark.integration

COUNTED = "echo x >> starts; exit 7"
RUNNER = [sys.executable, "-m", "tests.adapters.containers.process_runner"]


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[ProcessHarness]:
    made = ProcessHarness(tmp_path)
    yield made
    asyncio.run(made.clean())


def control_of(harness: ProcessHarness) -> Control:
    return Control(str(harness.state_dir / "process"), "job")


async def prepare(harness: ProcessHarness) -> Path:
    """Return a control directory with all that a start leaves, but which nobody has claimed."""
    control = control_of(harness)
    async with harness.open() as containers:
        await ran(harness, containers, "true")
        await containers.start(harness.spec("job", "true"))
        await end(containers, "job")
    path = Path(control.path)
    for name in ("pid", "exit"):
        (path / name).unlink()
    return path


@pytest.mark.parametrize("left", ["nothing", "lock", "spec", "run exit stdout stderr job"])
def test_a_start_that_was_cut_off_before_its_claim_is_made_anew(harness: ProcessHarness, left: str) -> None:
    """The runner may be killed between any two of its steps."""

    async def main() -> Exit:
        path = await prepare(harness)
        if "run" not in left:
            for name in {"spec", "lock", "run", "stdout", "stderr"} - set(left.split()):
                (path / name).unlink(missing_ok=True)
        else:
            (path / "run").write_text("exit 1")
            (path / "exit").write_text("...\n")
        async with harness.open() as containers:
            assert await containers.adopt("job") is None
            assert await containers.list_ours() == ("job",)
            await containers.start(harness.spec("job", "sh", "-c", COUNTED))
            return await end(containers, "job")

    assert asyncio.run(main()).code == 7
    assert (harness.workspace("job") / "starts").read_text() == "x\n"


@pytest.mark.parametrize("pids", ["", "12345", "12345\n", "12345\n678"])
def test_a_claim_whose_starter_died_is_never_started_again(harness: ProcessHarness, pids: str) -> None:
    async def main() -> Exit:
        path = await prepare(harness)
        (path / "pid").write_text(pids)
        async with harness.open() as containers:
            await containers.start(harness.spec("job", "sh", "-c", COUNTED))
            ended = await end(containers, "job")
            assert await output(containers, "job") == {"stdout": b"", "stderr": b""}
            return ended

    ended = asyncio.run(main())
    assert (ended.code, ended.not_started) == (None, True)
    assert "before the command began" in ended.message
    assert not (harness.workspace("job") / "starts").exists()


def test_a_pid_that_is_somebody_elses_by_now_is_left_alone(harness: ProcessHarness) -> None:
    """After a reboot the numbers in the file name strangers."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:

        async def main() -> Exit:
            path = await prepare(harness)
            (path / "pid").write_text(f"{stranger.pid}\n{stranger.pid}\n")
            async with harness.open() as containers:
                ended = await end(containers, "job")
                await containers.stop("job", 0)
                await containers.remove("job")
                return ended

        ended = asyncio.run(main())
        assert (ended.code, ended.not_started) == (None, False)
        assert stranger.poll() is None
        stranger.kill()


def test_several_processes_that_start_one_name_get_one_job(harness: ProcessHarness, tmp_path: Path) -> None:
    command = [*RUNNER, str(tmp_path), "job", "sh", "-c", COUNTED]
    runners = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [runner.communicate(timeout=LIMIT_S)[0].splitlines() for runner in runners]
    assert len({lines[0] for lines in said}) == 1
    assert [lines[-1] for lines in said] == ["7", "7", "7"]
    assert (harness.workspace("job") / "starts").read_text() == "x\n"


@pytest.mark.parametrize("lines", [1, 60, 140])
def test_a_killed_runner_harms_no_job_and_loses_no_output(harness: ProcessHarness, tmp_path: Path, lines: int) -> None:
    script = "i=0; while [ $i -lt 200 ]; do i=$((i+1)); echo $i; sleep 0.005; done; exit 7"
    (tmp_path / "followed").touch()
    with subprocess.Popen([*RUNNER, str(tmp_path), "job", "sh", "-c", script], stdout=subprocess.PIPE) as runner:
        assert runner.stdout is not None
        pid = int(runner.stdout.readline().split()[0])
        while (tmp_path / "followed").read_bytes().count(b"\n") < lines:
            assert runner.stdout.readline()
        runner.kill()
    followed = (tmp_path / "followed").read_bytes()

    async def main() -> None:
        async with harness.open() as containers:
            adopted = await containers.adopt("job")
            assert adopted is not None
            assert adopted.pid == pid
            rest = await output(containers, "job", {"stdout": len(followed)})
            assert (await end(containers, "job")).code == 7
        assert followed + rest["stdout"] == b"".join(b"%d\n" % number for number in range(1, 201))

    asyncio.run(main())


def test_a_killed_starter_takes_its_job_with_it_and_is_told_as_unknown(harness: ProcessHarness) -> None:
    """Nobody could say how such a job ended, so it must not go on alone."""

    async def main() -> None:
        async with harness.open() as containers:
            await containers.start(harness.spec("job", "sh", "-c", STUBBORN))
            await until_it_says(containers, "job", b"ready")
            pids = control_of(harness).pids()
            assert pids is not None
            assert pids.job is not None
            os.kill(pids.starter, signal.SIGKILL)
            ended = await end(containers, "job")
            assert (ended.code, ended.not_started) == (None, False)
            assert "killed before it could note the exit code" in ended.message
            assert not lives(pids.job)

    asyncio.run(main())


@pytest.mark.parametrize("after_s", [0, 0.0005, 0.001, 0.002, 0.005, 0.02])
def test_a_start_that_is_given_up_leaves_nothing_once_it_is_removed(harness: ProcessHarness, after_s: float) -> None:
    """Its thread goes on, and may not have made anything yet when it is removed."""

    async def main() -> None:
        async with harness.open() as containers:
            starting = asyncio.create_task(containers.start(harness.spec("job", "sh", "-c", STUBBORN)))
            await asyncio.wait({starting}, timeout=after_s)
            starting.cancel()
            await asyncio.wait({starting})
            await containers.remove("job")
            assert await containers.adopt("job") is None
            assert await containers.list_ours() == ()

    asyncio.run(main())


def test_a_job_begins_with_default_signals_and_no_terminal(harness: ProcessHarness) -> None:
    """Inherited from the runner, an ignored SIGPIPE or SIGINT would change what ordinary programs do."""
    program = "import signal as s; print([n for n in range(1, 32) if s.getsignal(n) == s.SIG_IGN])"
    blocked = "print(s.pthread_sigmask(s.SIG_BLOCK, []), end=''); import os; print(os.isatty(0))"

    async def main() -> None:
        async with harness.open() as containers:
            written, _ = await ran(harness, containers, "python3", "-c", f"{program}; {blocked}")
        # Python itself ignores SIGPIPE and SIGXFSZ as it begins.
        assert written["stdout"] == b"[%d, %d]\nset()False\n" % (signal.SIGPIPE, signal.SIGXFSZ)

    asyncio.run(main())


def test_no_other_process_can_read_the_environment_from_a_command_line(harness: ProcessHarness) -> None:
    program = "cat /proc/self/cmdline; cat /proc/$PPID/cmdline"

    async def main() -> None:
        async with harness.open() as containers:
            await containers.start(harness.spec("job", "sh", "-c", program, env={"TOKEN": "hunter2"}))
            written = await output(containers, "job")
            assert b"hunter2" not in written["stdout"]
            assert "run" not in names_in(control_of(harness).path)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ((), "empty"),
        (("",), "empty"),
        (("echo", "a\0b"), "NUL"),
        (("echo", "x" * 200_000), "128 KiB"),
        (("deep",), "is a directory|not found in PATH"),
        (("./deep",), "is a directory"),
        (("./job.sh",), "not executable: set its x bit, or run it by its interpreter, as in `sh job.sh`"),
        (("job.sh",), "or write ./job.sh for the one in the workspace"),
        (("./gone/job.sh",), "no such file"),
    ],
)
def test_a_command_that_cannot_run_is_refused_in_words(
    harness: ProcessHarness, command: tuple[str, ...], says: str
) -> None:
    (harness.workspace("job") / "deep").mkdir()
    (harness.workspace("job") / "job.sh").write_text("exit 0")

    async def main() -> None:
        async with harness.open() as containers:
            with pytest.raises(BadInput, match=says):
                await containers.start(harness.spec("job", *command))
            assert await containers.list_ours() == ()

    asyncio.run(main())


def test_a_program_of_the_workspace_runs_by_its_relative_path(harness: ProcessHarness) -> None:
    script = harness.workspace("job") / "run.sh"
    script.write_text("#!/bin/sh\nexit 7\n")
    script.chmod(0o755)

    async def main() -> None:
        async with harness.open() as containers:
            assert (await ran(harness, containers, "./run.sh"))[1].code == 7

    asyncio.run(main())


def test_a_workspace_that_is_gone_is_told_as_such(harness: ProcessHarness) -> None:
    async def main() -> None:
        async with harness.open() as containers:
            spec = harness.spec("job", "true")
            os.rmdir(spec.workspace)  # noqa: PTH106 - the path is the spec's
            with pytest.raises(Unavailable, match="its workspace /"):
                await containers.start(spec)

    asyncio.run(main())


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")
def test_on_a_full_disk_nothing_starts_and_what_runs_keeps_its_exit_code(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=755", "small", disk], check=True)
    harness = ProcessHarness(disk)
    fill = "while [ ! -e go ]; do sleep 0.01; done; head -c 1000000 /dev/zero > full; exit 7"

    async def main() -> None:
        async with harness.open() as containers:
            await containers.start(harness.spec("job", "sh", "-c", fill))
            spec = harness.spec("late", "true")
            (harness.workspace("job") / "go").touch()
            assert (await end(containers, "job")).code == 7
            with pytest.raises(OutOfSpace, match="start late"):
                await containers.start(spec)
            (harness.workspace("job") / "full").unlink()
            await containers.start(spec)
            assert (await end(containers, "late")).code == 0

    try:
        asyncio.run(main())
        asyncio.run(harness.clean())
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
