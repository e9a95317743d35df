"""A box is one state directory: one id for ever, one runner at a time, and plain words where it cannot be used."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from adapters.state_dir import SOCKET_PATH_MAX_BYTES, StateDir
from runner.errors import ConfigurationError, StateLocked
from tests.tiny_disk import tiny_disk

NOBODY = 65534


def test_a_state_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    """It will hold a key, and messages."""
    state = StateDir(str(tmp_path / "a" / "state"))
    assert Path(state.path).stat().st_mode & 0o777 == 0o700
    places = (state.journal, state.journal_key, state.spool, state.queue, state.socket)
    assert {Path(place).parent for place in places} == {Path(state.path)}
    assert len(set(places)) == len(places)


def test_a_box_has_one_id_for_ever(tmp_path: Path) -> None:
    """Containers and claims carry it over restarts."""
    box_id = StateDir(str(tmp_path)).box_id()
    assert str(uuid.UUID(box_id)) == box_id
    assert StateDir(str(tmp_path)).box_id() == box_id
    assert StateDir(str(tmp_path / "another")).box_id() != box_id


@pytest.mark.integration
def test_programs_that_start_together_agree_on_the_id(tmp_path: Path) -> None:
    """`runner submit` may be the first to open the directory, just as the runner starts."""
    program = "import sys; from adapters.state_dir import StateDir; print(StateDir(sys.argv[1]).box_id())"
    command = [sys.executable, "-c", program, str(tmp_path / "state")]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
    told = {process.communicate()[0] for process in started}
    assert len(told) == 1
    assert told != {b""}


def test_an_id_that_is_none_is_refused(tmp_path: Path) -> None:
    """A new id would orphan the box's containers; a person must say that this is meant."""
    (tmp_path / "box-id").write_text("box one\n")
    with pytest.raises(ConfigurationError, match=r"box-id holds 'box one', which is no UUID.*delete the file"):
        StateDir(str(tmp_path)).box_id()


def test_a_second_runner_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    """Two runners with one id would take each other's containers."""
    lock = StateDir(str(tmp_path)).lock()
    with pytest.raises(StateLocked, match=rf"process {os.getpid()}, works from {tmp_path}.*--state-dir"):
        StateDir(str(tmp_path)).lock()
    lock.close()
    lock.close()
    StateDir(str(tmp_path)).lock().close()


@pytest.mark.integration
def test_a_killed_runner_leaves_no_lock_behind(tmp_path: Path) -> None:
    """`kill -9` is a normal way to stop."""
    program = (
        "import sys; from adapters.state_dir import StateDir\n"
        "lock = StateDir(sys.argv[1]).lock(); print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(StateLocked, match=f"process {process.pid}, works .*`kill {process.pid}`"):
            StateDir(str(tmp_path)).lock()
        process.kill()
        process.wait()
        StateDir(str(tmp_path)).lock().close()


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    """The text names the path."""
    (tmp_path / "state").touch()
    with pytest.raises(ConfigurationError, match=rf"{tmp_path}/state: .*--state-dir"):
        StateDir(str(tmp_path / "state"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a directory of another user")
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    """Files that root made in it would be in that user's way for ever."""
    os.chown(tmp_path, NOBODY, NOBODY)
    with pytest.raises(ConfigurationError, match=f"belongs to user {NOBODY}, this is user 0"):
        StateDir(str(tmp_path))


def test_a_directory_that_everybody_may_write_to_is_refused(tmp_path: Path) -> None:
    """Anybody could put a key or a queue of their own there."""
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigurationError, match=f"run `chmod 700 {tmp_path}`"):
        StateDir(str(tmp_path))


def test_a_read_only_directory_is_refused(tmp_path: Path) -> None:
    """Nothing could be journaled, so nothing may be started."""
    with (
        tiny_disk(tmp_path / "disk", "ro", "mode=700") as disk,
        pytest.raises(ConfigurationError, match=r"cannot be written; mount it writable"),
    ):
        StateDir(str(disk))


def test_a_directory_that_cannot_be_made_is_refused() -> None:
    """Also root cannot make one below a device or in /proc."""
    with pytest.raises(ConfigurationError, match=r"/dev/null/state.*--state-dir"):
        StateDir("/dev/null/state")


def test_a_path_too_long_for_a_socket_is_refused_where_one_is_needed(tmp_path: Path) -> None:
    """The system's own message for it names neither the path nor the limit."""
    state = StateDir(str(tmp_path / ("x" * 100)))
    with pytest.raises(ConfigurationError, match=rf"{SOCKET_PATH_MAX_BYTES}: name a shorter --state-dir"):
        _ = state.socket
    assert state.box_id()
