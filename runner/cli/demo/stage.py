"""
Where a demo plays: the directory of its outputs, and a private temporary one for the runner's state.

    DIR/demo.json       the account of the last demo; while one plays, where its temporary directory is
    DIR/runner.log      what both lives of the runner said
    DIR/digits/         outputs and receipt of the training
    TEMPORARY/          of      the directory that it belongs to
                        state/  certs/  queue/  scratch/

One demo at a time plays in a directory. What an interrupted one left behind is ended and deleted by the next one there.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from runner.cli.demo.account import Account
from runner.cli.demo.cast import check_example
from runner.cli.demo.ending import end_all
from runner.errors import UsageError

PREFIX = "runner-demo-"
ACCOUNT, LOG, LOCK = "demo.json", "runner.log", ".lock"
_PARTS = ("state", "certs", "queue", "scratch")


class Playing(msgspec.Struct, frozen=True):
    """What ``demo.json`` says while a demo plays; ``temporary`` is empty once it ended."""

    temporary: str = ""


@dataclass(frozen=True)
class Stage:
    """The directory as it was named, the same one absolute, and the temporary one."""

    named: Path
    directory: Path
    temporary: Path

    @property
    def state(self) -> Path:
        """The runner's state directory."""
        return self.temporary / "state"

    @property
    def certs(self) -> Path:
        """The directory that the runner watches."""
        return self.temporary / "certs"

    @property
    def queue(self) -> Path:
        """The queue's directory; its name is what the queue is called."""
        return self.temporary / "queue" / "demo"

    @property
    def scratch(self) -> Path:
        """Files that the demo makes for its jobs."""
        return self.temporary / "scratch"

    @property
    def log(self) -> Path:
        """What the runner says."""
        return self.directory / LOG

    def outputs_of(self, job_id: str) -> Path:
        """Return where a job's outputs stand."""
        return self.directory / job_id

    def clear(self) -> None:
        """Delete what is temporary; idempotent."""
        from adapters.trees import remove_tree

        remove_tree(str(self.temporary))

    def store(self, account: Account) -> None:
        """Keep the account beside the outputs."""
        _write(self.directory / ACCOUNT, msgspec.json.format(msgspec.json.encode(account), indent=2) + b"\n")


@contextmanager
def open_stage(named: Path) -> Iterator[Stage]:
    """
    Open a directory for one demo; everything temporary is deleted on leaving.

    Raises:
        UsageError: it holds something else, cannot be written, or another demo plays there.
        ConfigurationError: the training's files are not there.
    """
    check_example()
    directory = named.expanduser().absolute()
    try:
        _check(directory)
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"--dir {named}: {error.strerror}; name another directory") from error
    try:
        _take(lock, named)
        yield from _opened(named, directory)
    finally:
        os.close(lock)


def _check(directory: Path) -> None:
    if not directory.exists():
        return
    foreign = {entry.name for entry in directory.iterdir()} - {LOCK}
    if foreign and ACCOUNT not in foreign:
        raise UsageError(f"--dir {directory} holds something else ({min(foreign)}): name a new or an empty directory")


def _take(lock: int, named: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UsageError(f"--dir {named}: another demo plays there now; name another directory") from error


def _opened(named: Path, directory: Path) -> Iterator[Stage]:
    _clear_up_after_another(directory)
    temporary = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
    # Jobs may have users of their own, who must get to their workspaces; what lies in it is the owner's alone.
    temporary.chmod(0o711)
    (temporary / "of").write_text(str(directory), "utf-8")
    for part in _PARTS:
        (temporary / part).mkdir(mode=0o700)
    _write(directory / ACCOUNT, msgspec.json.encode(Playing(str(temporary))))
    _forget_outputs(directory)
    stage = Stage(named, directory, temporary)
    try:
        yield stage
    finally:
        stage.clear()


def _clear_up_after_another(directory: Path) -> None:
    """End and delete what a demo left that was killed itself, if it is a demo's and this directory's."""
    try:
        left = msgspec.json.decode((directory / ACCOUNT).read_bytes(), type=Playing).temporary
    except (OSError, msgspec.DecodeError):
        return
    temporary = Path(left)
    if not left or temporary.is_symlink() or not temporary.name.startswith(PREFIX):
        return
    if _read(temporary / "of") == str(directory):
        asyncio.run(end_all(temporary / "state"))
        Stage(directory, directory, temporary).clear()


def _forget_outputs(directory: Path) -> None:
    """Delete what an earlier demo stored, so that nothing of it is taken for this one's."""
    for path in (directory / LOG, *sorted((directory / "digits").glob("*.json")), directory / "digits" / "curve.svg"):
        path.unlink(missing_ok=True)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError:
        return ""


def _write(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.new")
    draft.write_bytes(content)
    draft.replace(path)
