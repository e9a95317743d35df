"""A card has one lock on a machine, whoever asks for it, and it ends with the process that holds it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from adapters.gpus.locks import GpuLocks
from runner.errors import Unavailable

ROOT = Path(__file__).parents[3]
HOLD = """
import sys
from adapters.gpus.locks import GpuLocks
print(GpuLocks(sys.argv[1]).lock("GPU-1") and "held", flush=True)
sys.stdin.read()
"""


def test_one_runner_has_the_lock(tmp_path: Path) -> None:
    """Taking it twice, and giving it back twice, is no error."""
    ours, theirs = GpuLocks(str(tmp_path)), GpuLocks(str(tmp_path))
    assert (True, True, False, True) == (
        ours.lock("GPU-1"),
        ours.lock("GPU-1"),
        theirs.lock("GPU-1"),
        theirs.lock("GPU-2"),
    )
    ours.unlock("GPU-1")
    ours.unlock("GPU-1")
    assert theirs.lock("GPU-1")
    theirs.unlock_all()


def test_a_lock_ends_with_its_process_and_not_before(tmp_path: Path) -> None:
    """Also where that is killed, and though its children live on."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        ours = GpuLocks(str(tmp_path))
        assert not ours.lock("GPU-1")
        holder.kill()
        holder.wait()
    assert ours.lock("GPU-1")
    ours.unlock_all()


def test_a_lock_does_not_pass_to_programs_that_we_start(tmp_path: Path) -> None:
    ours, theirs = GpuLocks(str(tmp_path)), GpuLocks(str(tmp_path))
    assert ours.lock("GPU-1")
    child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        ours.unlock("GPU-1")
        assert theirs.lock("GPU-1")
    finally:
        child.kill()
        child.wait()
        theirs.unlock_all()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_another_users_runner_meets_the_same_lock() -> None:
    """In a directory that all may write to, where the kernel guards other users' files."""
    script = (
        "import os, sys; from adapters.gpus.locks import GpuLocks; os.setuid(65532); locks = GpuLocks(sys.argv[1]);"
    )
    script += "print(locks.lock('GPU-1'), locks.lock('GPU-2'))"
    with tempfile.TemporaryDirectory(dir="/tmp") as above:
        Path(above).chmod(0o755)
        directory = f"{above}/locks"
        ours = GpuLocks(directory)
        assert ours.lock("GPU-1")
        other = [sys.executable, "-c", script, directory]
        assert subprocess.run(other, cwd=ROOT, check=True, capture_output=True).stdout == b"False True\n"
        assert ours.lock("GPU-2")
        ours.unlock_all()


def test_what_cannot_be_locked_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="GPU-1"):
        GpuLocks(str(tmp_path / "file")).lock("GPU-1")
    with pytest.raises(Unavailable, match="cannot name"):
        GpuLocks(str(tmp_path)).lock("../GPU-1")
    (tmp_path / "GPU-2").symlink_to("/etc/passwd")
    with pytest.raises(Unavailable, match="GPU-2"):
        GpuLocks(str(tmp_path)).lock("GPU-2")
