"""The demo as it is typed: whole, interrupted, killed, and with a runner that dies; nothing is ever left running."""

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runner.cli.demo.stage import open_stage
from tests.at_work import until
from tests.cli.typed import clean_environ, started, typed

LIMIT_S = 300
pytestmark = [pytest.mark.integration, pytest.mark.timeout(LIMIT_S + 30)]
WRITTEN = "certs/local.toml written"


@contextmanager
def demo(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a demo off any terminal; interrupted at the end if it still plays."""
    command = [sys.executable, "-m", "runner", "demo", "--dir", str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=clean_environ()) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)


def read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if text in line:
            return
    raise AssertionError(f"it ended before it said {text!r}:\n{''.join(said)}")


def state_of(directory: Path) -> Path:
    """Return the state directory of the demo's runner, from what that one said."""
    lines = (directory / "runner.log").read_text().splitlines()
    return Path(next(record["state_dir"] for record in map(json.loads, lines) if record.get("action") == "ready"))


def processes_of(state: Path) -> list[str]:
    """Return the command lines of processes that name a demo's temporary directory, or work in it."""
    temporary, found = str(state.parent), []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            works_in = str((place / "cwd").readlink())
        except OSError:
            continue
        if temporary in command or works_in.startswith(temporary):
            found.append(command)
    return found


def assert_nothing_is_left(state: Path) -> None:
    assert [] == processes_of(state)
    assert not state.parent.exists()


@pytest.mark.slow
def test_the_whole_demo(tmp_path: Path) -> None:
    """It ends 0, says what it measured, and leaves the outputs that it names, and nothing else."""
    out = tmp_path / "out"
    with demo(out) as process:
        said, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, said
    lines = said.splitlines()
    assert re.fullmatch(r"demo ok: 6 of 6 as expected, kill -9 survived, \d+ s, outputs in \S+/out", lines[-1])
    for expected in (
        r'    certs/local\.toml written → queue "demo" found, first job started +after \d+ ms',
        r'    typo +\S+ cpu +failed +exit 3   "train\.py: no such option --epoch"',
        r"    evil\.tar +\S+ cpu +refused +input leaves the workspace: \.\./\.\./etc/passwd",
        r"    the training goes on \(pid \d+\) · runner started again \(pid \d+\)",
        r"    \d jobs? taken back in \d+\.\d\d s · log goes on at line [\d,]+ · 0 lines lost, 0 twice",
        r"    digits +succeeded +succeeded +✓ .* 3,122 lines  sha256 [0-9a-f]{4}…",
        r"    digits: 94\.7 % of 360 unseen digits right +loss 1\.\d\d \S{13} 0\.\d\d",
    ):
        assert any(re.fullmatch(expected, line) for line in lines), (expected, said)
    assert {"model.json", "metrics.json", "curve.svg", "receipt.json"} == {it.name for it in (out / "digits").iterdir()}
    assert_the_account_is_true(out)
    assert_nothing_is_left(state_of(out))


def assert_the_account_is_true(out: Path) -> None:
    account, receipt = (json.loads((out / name).read_bytes()) for name in ("demo.json", "digits/receipt.json"))
    assert (True, []) == (account["ok"], account["problems"])
    kill = account["kill"]
    assert len({kill["runner_pid"], kill["next_runner_pid"], kill["training_pid"]}) == 3
    assert 1 < kill["resumed_at_line"] < receipt["log"]["lines"]
    assert (receipt["log"]["lines"], receipt["log"]["sha256"]) == (
        account["jobs"][0]["log_lines"],
        account["jobs"][0]["log_sha256"],
    )


def interrupted(directory: Path, *, at: str, by: signal.Signals) -> Path:
    """Interrupt a demo once it said something; return its state directory."""
    with demo(directory) as process:
        read_until(process, at)
        process.send_signal(by)
        process.communicate(timeout=LIMIT_S)
    assert process.returncode == (130 if by is signal.SIGINT else -by)
    return state_of(directory)


def resumed(directory: Path, state: Path) -> str:
    """Type the same again, which goes on to the end on the same state; return what it said."""
    with demo(directory) as process:
        said, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, said
    assert state == state_of(directory)
    assert "goes on where a demo was interrupted" in said
    assert re.search(r"^demo ok: 6 of 6 as expected", said, re.MULTILINE), said
    account = json.loads((directory / "demo.json").read_bytes())
    assert (True, True, []) == (account["resumed"], account["ok"], account["problems"])
    assert_nothing_is_left(state)
    return said


@pytest.mark.slow
def test_a_demo_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    """Its runner and its jobs went on; the next one takes them back, and neither submits nor plays anything again."""
    state = interrupted(tmp_path, at=WRITTEN, by=signal.SIGKILL)
    assert processes_of(state)
    said = resumed(tmp_path, state)
    assert "act 1 was played before" in said
    assert (0, 1, 1) == tuple(said.count(text) for text in (WRITTEN, "Six jobs share", "kill -9 on the runner"))
    assert re.search(r"^    digits +succeeded +succeeded +✓ .* 1  3,122 lines", said, re.MULTILINE), said
    assert "kill -9 survived" in said


@pytest.mark.slow
def test_a_demo_that_was_interrupted_while_it_killed_its_runner_does_that_again(tmp_path: Path) -> None:
    """Ctrl-C ends all it started, so its jobs begin again; what they wrote before counts for nothing."""
    state = interrupted(tmp_path, at="kill -9 on the runner", by=signal.SIGINT)
    assert [] == processes_of(state)
    said = resumed(tmp_path, state)
    assert "acts 1 to 2 were played before" in said
    assert (0, 0, 1) == tuple(said.count(text) for text in (WRITTEN, "Six jobs share", "kill -9 on the runner"))
    assert re.search(r" 0 lines lost, 0 twice$", said, re.MULTILINE), said


@pytest.mark.slow
def test_a_demo_that_was_killed_in_its_last_act_plays_that_alone(tmp_path: Path) -> None:
    state = interrupted(tmp_path, at="runner started again", by=signal.SIGKILL)
    said = resumed(tmp_path, state)
    assert "acts 1 to 3 were played before" in said
    assert (0, 0, 0) == tuple(said.count(text) for text in (WRITTEN, "Six jobs share", "kill -9 on the runner"))
    assert "kill -9 survived" in said


@pytest.mark.slow
def test_a_demo_whose_reader_went_away_can_go_on(tmp_path: Path) -> None:
    """As with Ctrl-C of ``runner demo | tee``: what it said last reached nobody."""
    with demo(tmp_path) as process:
        read_until(process, WRITTEN)
        assert process.stdout is not None
        process.stdout.close()
        process.wait(LIMIT_S)
    state = state_of(tmp_path)
    assert [] == processes_of(state)
    # It learns of that by its next line, which other scenes may have got in where this test is slow.
    assert re.search(r"acts? 1 (was|to \d were) played before", resumed(tmp_path, state))


@pytest.mark.slow
def test_a_training_that_ended_meanwhile_is_not_interrupted_any_more(tmp_path: Path) -> None:
    """The demo's runner served on without it: what ended counts, and nothing is said to be survived that was not."""
    state = interrupted(tmp_path, at=WRITTEN, by=signal.SIGKILL)
    until((tmp_path / "digits" / "receipt.json").exists, "the training ended", LIMIT_S)
    said = resumed(tmp_path, state)
    assert "not played: the training " in said
    assert "survived" not in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("left", "why"),
    [
        ('{"ok": true}', "the demo there has ended"),
        ('{"temporary": "/tmp/runner-demo-gone"}', "what an interrupted demo left at /tmp/runner-demo-gone is gone"),
        ("not yet", "what stands there of an earlier demo cannot be read"),
    ],
)
def test_what_cannot_go_on_begins_anew_and_says_why(tmp_path: Path, left: str, why: str) -> None:
    (tmp_path / "demo.json").write_text(left)
    with demo(tmp_path) as process:
        read_until(process, f" anew   {why}, so this one begins anew")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130
    shutil.rmtree(json.loads((tmp_path / "demo.json").read_bytes())["temporary"])


def test_a_temporary_directory_of_another_demo_is_left_alone(tmp_path: Path) -> None:
    """What a copied or forged file names is nobody's to start a runner on, or to delete."""
    out, other = tmp_path / "out", tmp_path / "runner-demo-other"
    for path in (out, other):
        path.mkdir()
    (other / "of").write_text("/somebody/else")
    (out / "demo.json").write_text(json.dumps({"temporary": str(other)}))
    with open_stage(out) as stage:
        stage.clear()
        assert (None, False) == (stage.before, stage.temporary == other)
    assert "/somebody/else" == (other / "of").read_text()


@pytest.mark.slow
def test_a_runner_that_dies_is_a_failure_that_names_its_log(tmp_path: Path) -> None:
    """Not by the demo's own hand: it says so, ends the jobs, and ends 1."""
    with demo(tmp_path) as process:
        read_until(process, WRITTEN)
        state = state_of(tmp_path)
        os.kill(int((state / "lock").read_text()), signal.SIGKILL)
        said, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    last = said.splitlines()[-1]
    assert last.startswith("demo failed: the runner ended by itself (signal 9): ")
    assert last.endswith(f"; read {tmp_path / 'runner.log'}")
    assert_nothing_is_left(state)


@pytest.mark.slow
def test_ctrl_c_on_a_terminal(tmp_path: Path) -> None:
    """What is drawn changes in place; Ctrl-C reaches the demo alone, which ends all it started and shows the cursor."""
    screen, status = _typed_on_terminal(tmp_path, until="running", then=b"\x03")
    assert status == 130
    assert "\x1b[?25l" in screen
    assert screen.rindex("\x1b[?25h") > screen.rindex("\x1b[?25l")
    assert screen.rstrip().endswith("demo interrupted: what it started is stopped; the same command goes on with it")
    assert [] == processes_of(state_of(tmp_path))
    shutil.rmtree(state_of(tmp_path).parent)


def _typed_on_terminal(directory: Path, *, until: str, then: bytes) -> tuple[str, int]:
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    # Its own session with this terminal, so that what is typed there can interrupt it.
    command = ["setsid", "--ctty", sys.executable, "-m", "runner", "demo", "--dir", str(directory)]
    environ = {**clean_environ(), "TERM": "xterm"}
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=environ) as process:
        os.close(terminal)
        with os.fdopen(master, "r+b", buffering=0) as seen:
            text = _read_along(seen.fileno(), until, then)
        return text, process.wait(LIMIT_S)


def _read_along(master: int, until: str, then: bytes) -> str:
    text, typed_it = b"", False
    while True:
        try:
            text += os.read(master, 4096)
        except OSError:  # EIO: the last writer closed the terminal
            return text.decode()
        if not typed_it and until.encode() in text:
            typed_it = True
            os.write(master, then)


def test_a_directory_with_other_things_in_it_is_refused(tmp_path: Path) -> None:
    """Outputs never land between somebody's files."""
    (tmp_path / "thesis.tex").write_text("")
    said = typed("demo", "--dir", tmp_path)
    assert (64, ["thesis.tex"]) == (said.status, [it.name for it in tmp_path.iterdir()])
    assert "thesis.tex" in said.err
    assert len(said.err.splitlines()) == 1


def test_two_demos_in_one_directory(tmp_path: Path) -> None:
    """The second is refused while the first plays."""
    lock = os.open(tmp_path / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    said = started("demo", "--dir", tmp_path)
    os.close(lock)
    assert (64, 1) == (said.status, len(said.err.splitlines()))
    assert "another demo" in said.err
