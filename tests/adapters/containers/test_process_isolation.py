"""What a process job cannot do where the runner is root: reach the runner, other jobs, the network, the box's files."""

from __future__ import annotations

import asyncio
import os
import platform
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from runner.ports import Exit
from tests.conformance.container_harness import UIDS, ProcessHarness
from tests.conformance.container_steps import STUBBORN, end, output, ran, until_it_says

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="users of their own take root"),
]


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[ProcessHarness]:
    made = ProcessHarness(tmp_path)
    yield made
    asyncio.run(made.clean())


@pytest.fixture
def sealed(harness: ProcessHarness) -> ProcessHarness:
    if harness.way != "view":
        pytest.skip("a container around this runner forbids mounts and networks of a job's own")
    return harness


def shell(harness: ProcessHarness, script: str) -> tuple[list[str], Exit]:
    """Run a script to its end and return the lines that it wrote to stdout."""

    async def main() -> tuple[list[str], Exit]:
        async with harness.open() as containers:
            written, ended = await ran(harness, containers, "sh", "-c", script)
            return written["stdout"].decode().splitlines(), ended

    return asyncio.run(main())


def test_each_running_job_is_a_user_of_its_own(harness: ProcessHarness) -> None:
    async def main() -> None:
        async with harness.open() as containers:
            users = set()
            for name in ("job-a", "job-b", "job-c"):
                running = await containers.start(harness.spec(name, "sh", "-c", STUBBORN))
                await until_it_says(containers, name, b"ready")
                users.add(running.isolation.user)
                assert running.pid is not None
                assert os.stat(f"/proc/{running.pid}").st_uid == int(running.isolation.user)  # noqa: PTH116 - /proc
            assert len(users) == 3
            assert all(UIDS[0] <= int(user) < sum(UIDS) for user in users)

    asyncio.run(main())


def test_a_job_has_no_privileges_to_regain(harness: ProcessHarness) -> None:
    lines, _ = shell(harness, "cat /proc/self/status; id -G")
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert lines[-1] == status["Gid"].split()[0]


def test_a_job_cannot_read_or_change_what_the_runner_keeps(harness: ProcessHarness) -> None:
    """It could end itself as succeeded, or read the secrets of others."""
    control = harness.state_dir / "process" / "job"
    tries = [f"cat {control / name}" for name in ("spec", "pid", "exit", "stdout", "lock")]
    tries += [f"echo 0 > {control / name}" for name in ("exit", "pid", "stdout", "new")]
    tries += [f"ls {control}/spec", f"rm {control}/exit", "> /dev/stdout", "> /dev/stderr"]
    script = "".join(f"if {one} 2>/dev/null; then echo could {one}; fi; " for one in tries)
    lines, ended = shell(harness, f"{script} exit 7")
    assert lines == []
    assert ended.code == 7


def test_a_job_cannot_signal_the_runner_its_starter_or_other_jobs(harness: ProcessHarness) -> None:
    async def main() -> None:
        async with harness.open() as containers:
            other = await containers.start(harness.spec("job-a", "sh", "-c", STUBBORN))
            await until_it_says(containers, "job-a", b"ready")
            pids = f"{os.getpid()} $PPID {other.pid}"
            script = f"for pid in {pids}; do kill -9 $pid 2>/dev/null && echo could; done; exit 7"
            await containers.start(harness.spec("job-b", "sh", "-c", script))
            assert (await output(containers, "job-b"))["stdout"] == b""
            assert (await end(containers, "job-b")).code == 7

    asyncio.run(main())


def test_a_job_cannot_enter_the_workspace_of_another(harness: ProcessHarness) -> None:
    """Also not one of the past whose user it has now."""
    harness.workspace("job-a").chmod(0o755)
    (harness.workspace("job-a") / "secret").write_text("hunter2")
    only = ProcessHarness(harness.workspace("job-a").parents[1], uid_range=(UIDS[0], 1))

    async def main() -> None:
        async with only.open() as containers:
            first = await containers.start(only.spec("job-a", "sh", "-c", "chmod 777 . secret"))
            await end(containers, "job-a")
            await containers.remove("job-a")
            second = await containers.start(only.spec("job-b", "cat", str(only.workspace("job-a") / "secret")))
            assert first.isolation.user == second.isolation.user
            assert (await output(containers, "job-b"))["stdout"] == b""
            assert (await end(containers, "job-b")).code == 1

    asyncio.run(main())
    state = only.workspace("job-a").stat()
    assert (state.st_uid, stat.S_IMODE(state.st_mode)) == (0, 0o700)


def test_no_link_leads_the_change_of_owner_out_of_the_workspace(harness: ProcessHarness, tmp_path: Path) -> None:
    """An input may be any archive, and the cache may hand out files by a second name."""
    for name in ("outside", "cached"):
        (tmp_path / name).write_text("the box's")
    workspace = harness.workspace("job")
    (workspace / "deep").mkdir()
    (workspace / "deep" / "link").symlink_to(tmp_path / "outside")
    (workspace / "directory").symlink_to(tmp_path)
    (workspace / "second-name").hardlink_to(tmp_path / "cached")
    (workspace / "own").write_text("mine")
    _, ended = shell(harness, "echo more >> own && ! echo x >> second-name && ! echo x >> deep/link")
    assert ended.code == 0
    assert [(tmp_path / name).stat().st_uid for name in ("outside", "cached")] == [0, 0]
    assert (workspace / "own").read_text() == "minemore\n"


def test_a_job_has_a_network_with_nothing_but_itself(sealed: ProcessHarness) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        to_the_box = f"socket.create_connection(('127.0.0.1', {port}), 5)"
        to_itself = "s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname(), 5)"
        program = f"import socket\ntry: {to_the_box}\nexcept OSError as e: print(e.errno)\n{to_itself}; print('itself')"
        lines, _ = shell(sealed, f'python3 -c "{program}"; ls /sys/class/net | wc -l')
    assert lines[:2] == ["111", "itself"]


def test_a_job_has_temporary_directories_of_its_own(sealed: ProcessHarness, tmp_path: Path) -> None:
    """What one job leaves in /tmp or /dev/shm, no other finds, and the disk gets back."""
    write = 'for d in /tmp /var/tmp /dev/shm; do echo x > $d/runner-left-over && echo "$TMPDIR"; done'
    script = f"ls -A /dev/shm /var/tmp; {write}"
    lines, _ = shell(sealed, script)
    assert lines.count("/tmp") == 3
    assert not [name for name in lines if "left-over" in name]
    assert not [path for path in ("/tmp", "/var/tmp", "/dev/shm") if Path(path, "runner-left-over").exists()]
    again, _ = shell(sealed, "find /tmp /var/tmp /dev/shm -name runner-left-over")
    assert again == []


def test_a_job_writes_only_where_it_was_given_a_place(sealed: ProcessHarness, tmp_path: Path) -> None:
    for name in ("open", "granted"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o777)

    async def main() -> None:
        async with sealed.open() as containers:
            script = f"echo x > {tmp_path}/granted/file; echo x > {tmp_path}/open/file; echo x > /usr/file; exit 7"
            spec = msgspec.structs.replace(sealed.spec("job", "sh", "-c", script), paths=(str(tmp_path / "granted"),))
            await containers.start(spec)
            assert (await end(containers, "job")).code == 7

    asyncio.run(main())
    assert (tmp_path / "granted" / "file").read_text() == "x\n"
    assert not (tmp_path / "open" / "file").exists()
    assert not Path("/usr/file").exists()


def test_what_is_mounted_below_a_granted_path_keeps_its_own_rights(sealed: ProcessHarness, tmp_path: Path) -> None:
    """A data directory often holds disks of its own, some of them read-only."""
    options = {"disk": "mode=777", "snapshot": "mode=777,ro"}
    for name, option in options.items():
        (tmp_path / "granted" / name).mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", option, "disk", tmp_path / "granted" / name], check=True)

    async def main() -> bytes:
        async with sealed.open() as containers:
            script = f"cd {tmp_path}/granted; for d in disk snapshot; do echo x > $d/file && echo wrote $d; done"
            spec = msgspec.structs.replace(sealed.spec("job", "sh", "-c", script), paths=(str(tmp_path / "granted"),))
            await containers.start(spec)
            return (await output(containers, "job"))["stdout"]

    try:
        assert asyncio.run(main()) == b"wrote disk\n"
        assert (tmp_path / "granted" / "disk" / "file").read_text() == "x\n"
    finally:
        for name in options:
            subprocess.run(["umount", "-l", tmp_path / "granted" / name], check=True)


def test_a_job_sees_no_process_but_its_own(sealed: ProcessHarness) -> None:
    lines, _ = shell(sealed, "ls /proc | grep -c '^[0-9]'; ls /proc/1 2>/dev/null; ls /proc/$PPID 2>/dev/null")
    assert lines in (["2"], ["3"], ["4"])


def test_a_job_sees_of_a_closed_directory_only_its_workspace(sealed: ProcessHarness) -> None:
    """The state directory is closed to all other users, and often lies in a home that is."""
    secret = sealed.state_dir.parent / "journal"
    secret.write_text("hunter2")
    secret.chmod(0o666)
    lines, ended = shell(sealed, f"cat {secret}; find {sealed.state_dir.parent} -maxdepth 1 | wc -l; pwd; exit 7")
    assert lines == ["3", str(sealed.workspace("job"))]
    assert ended.code == 7


def test_what_is_not_isolated_is_said(harness: ProcessHarness) -> None:
    async def main() -> None:
        async with harness.open() as containers:
            missing = (await containers.start(harness.spec("job", "true"))).isolation.missing
            await end(containers, "job")
        assert ("system call filter" in missing) == (platform.machine() not in {"x86_64", "aarch64"})
        assert ("network" in missing) == (harness.way != "view")

    asyncio.run(main())


def test_a_jobs_view_never_shows_in_the_boxs(sealed: ProcessHarness) -> None:
    """A box that runs for a year must not collect mounts."""

    def ours() -> list[str]:
        directory = str(sealed.state_dir.parent)
        return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if directory in line]

    async def main() -> None:
        async with sealed.open() as containers:
            await containers.start(sealed.spec("job", "sh", "-c", STUBBORN))
            await until_it_says(containers, "job", b"ready")
            assert ours() == []

    asyncio.run(main())
