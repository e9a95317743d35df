"""Bad command lines, settings and state directories, and interruptions: one line that says what, where, what to do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.at_work import AtWork, at_work
from tests.cli.typed import LIMIT_S, Typed, clean_environ, started

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AtWork]:
    """A runner to type commands beside."""
    with at_work(tmp_path_factory.mktemp("box")) as it:
        yield it
        assert it.stop() == 0


def one_line(said: Typed, status: int, *words: object) -> None:
    """Check that a command failed with this status and one line that holds these words."""
    assert (status, "", 1) == (said.status, said.out, len(said.err.splitlines())), said.err
    assert [word for word in words if str(word) not in said.err] == [], said.err


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("submit", "--queue", "rabbit://host/q", "--", "true"), 64, ("rabbit", "folder:///")),
        (("submit", "--queue", "kafka://me:hunter2@host/q", "--", "true"), 64, ("kafka", "no such kind")),
        (("ps", "--queue", "rabbit://host/q"), 64, ("rabbit",)),
        (("logs", "--queue", "folder:///nosuch/queue", "x"), 1, ("there is no queue", "/nosuch/queue")),
        (("submit", "--queue", "folder://relative/path", "--", "true"), 64, ("folder:///",)),
        (("submit", "--queue", "folder:///proc/nosuch", "--", "true"), 69, ("/proc/nosuch",)),
        (("submit", "--gpus", "two", "--", "true"), 64, ("--gpus", "two")),
        (("submit", "--timeout", "1 hour", "--", "true"), 64, ("--timeout", "1 hour", '"90s"')),
        (("submit", "--memory", "4", "--", "true"), 64, ("resources.memory", "1MiB", "4GiB")),
        (("submit", "--input", "rabbit://host/x", "--", "true"), 64, ("inputs[0].url", "rabbit://host/x")),
        (("submit", "--id", "../../etc/x", "--", "true"), 64, ("id", "../../etc/x")),
        (("submit", "--id", "a" * 300, "--", "true"), 64, ("id",)),
        (("submit", "--comand", "x"), 64, ("--comand",)),
        (("submit", "/nosuch/job.toml"), 64, ("/nosuch/job.toml",)),
        (("submti",), 64, ("submti", "did you mean submit?")),
        (("logs", "nosuch"), 1, ("nosuch", "runner ps --all")),
        (("logs", "-f", "nosuch"), 1, ("nosuch",)),
        (("logs", "../../etc/passwd"), 1, ("../../etc/passwd",)),
        (("show", "nosuch"), 1, ("nosuch",)),
        (("why", "nosuch"), 1, ("nosuch",)),
        (("cancel", "nosuch"), 1, ("nosuch",)),
        (("cancel", "a" * 5000), 1, ("aaa",)),
        (("show", "schön/ü"), 1, ("schön/ü",)),
    ],
)
def test_a_bad_command_line_is_one_line(
    box: AtWork, words: tuple[str, ...], status: int, told: tuple[str, ...]
) -> None:
    """What was wrong, and what to write; a secret in a URL is not repeated."""
    said = box.type(*words)
    one_line(said, status, *told)
    assert "hunter2" not in said.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--gpus", "two"), ("gpus", "simulated:2")),
        (("--timeout", "1 hour"), ("timeout", "1 hour")),
        (("--max-jobs", "many"), ("many",)),
        (("--queue-match", "("), ("--queue-match", "regular expression")),
        (("--config", "/nosuch/runner.toml"), ("/nosuch/runner.toml",)),
        (("--job-uids", "0:0"), ("--job-uids", "210000:4096")),
    ],
)
def test_a_bad_setting_keeps_the_runner_from_starting(
    tmp_path: Path, words: tuple[str, ...], told: tuple[str, ...]
) -> None:
    """64 or 78, and nothing is made."""
    said = started("run", "--state-dir", tmp_path / "s", *words)
    assert said.status in {64, 78}
    one_line(said, said.status, *told)
    assert not (tmp_path / "s").exists()


def test_a_second_runner_on_one_state_directory_is_refused(box: AtWork) -> None:
    """Two would take each other's jobs back; the first does not notice."""
    one_line(started("run", "--state-dir", box.state), 78, f"process {box.process.pid}", "--state-dir")
    assert box.follow("undisturbed", "--", "true").status == 0


def test_a_state_directory_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """A file, a foreign one, one that everybody may write, one with somebody else's id or journal in it."""
    (tmp_path / "file").write_text("")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "no-id").mkdir(mode=0o700)
    (tmp_path / "no-id" / "box-id").write_text("not a uuid\n")
    (tmp_path / "no-journal").mkdir(mode=0o700)
    (tmp_path / "no-journal" / "journal.db").write_bytes(b"this is no database, however long it may be" * 100)
    for name in ("file", "open", "no-id", "no-journal"):
        one_line(started("run", "--state-dir", tmp_path / name, "--gpus", "none"), 78, tmp_path / name)
    one_line(started("run", "--state-dir", "/proc/nosuch"), 78, "/proc/nosuch")


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a directory away takes root")
def test_a_foreign_state_directory_is_refused(tmp_path: Path) -> None:
    """Its owner could read every job and exchange what the runner believes."""
    (tmp_path / "foreign").mkdir(mode=0o700)
    os.chown(tmp_path / "foreign", 65534, 65534)
    one_line(started("run", "--state-dir", tmp_path / "foreign"), 78, "foreign", "user 65534")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
def test_a_read_only_state_directory_is_refused(tmp_path: Path) -> None:
    """Said before anything is touched."""
    (tmp_path / "s").mkdir(mode=0o700)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,mode=700", "none", tmp_path / "s"], check=False)
    if mounted.returncode != 0:
        pytest.skip("cannot mount here")
    try:
        one_line(started("run", "--state-dir", tmp_path / "s"), 78, tmp_path / "s")
    finally:
        subprocess.run(["umount", "--lazy", tmp_path / "s"], check=True)


def test_ctrl_c_while_following_lets_go_of_a_job_that_runs(box: AtWork) -> None:
    """The job goes on, and the line that comes back to it works."""
    words = ["submit", "--state-dir", str(box.state), "--follow", "--id", "long", "--", "sh", "-c"]
    script = "echo begun; while [ ! -e go ]; do sleep 0.05; done; echo over"
    command = [sys.executable, "-m", "runner", *words, script]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": clean_environ()}
    with subprocess.Popen(command, **streams) as follower:  # type: ignore[call-overload]
        assert follower.stdout is not None
        assert follower.stdout.readline() == "begun\n"
        follower.send_signal(signal.SIGINT)
        out, err = follower.communicate(timeout=LIMIT_S)
    assert (130, "") == (follower.returncode, out)
    again = f"runner logs -f --state-dir={box.state} long"
    assert err == f"runner: long\nrunner: detached, the job goes on; follow it again with: {again}\n"
    assert box.receipt("long").state == "running"
    (workspace,) = (box.state / "workspaces").glob("long.*")
    (workspace / "go").touch()
    said = box.type(*again.split()[1:])
    assert (0, "begun\nover\n") == (said.status, said.out)


def test_a_reader_that_had_enough_is_no_error(box: AtWork) -> None:
    """``runner ps --all | head -1``."""
    state = f"--state-dir={box.state}"
    for command in (f"ps --all {state}", f"ps --all --json {state}", f"sources {state}", "schema receipt"):
        script = f"set -o pipefail; {sys.executable} -m runner {command} | head -1"
        said = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, env=clean_environ())
        assert (0, "", 1) == (said.returncode, said.stderr, len(said.stdout.splitlines())), command
