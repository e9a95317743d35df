"""
Where a demo plays: the directory of its outputs, and a private temporary one for the runner's state.

    DIR/demo.json       the account of the last demo; until it ended, what was played and where the temporary one is
    DIR/runner.log      what both lives of the runner said
    DIR/digits/         outputs and receipt of the training
    TEMPORARY/          of      the directory that it belongs to
                        state/  certs/  queue/  scratch/

One demo at a time plays in a directory. One that was interrupted goes on there, one that ended begins anew.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from runner.cli.demo.account import Account, Playing
from runner.cli.demo.cast import check_example
from runner.errors import UsageError

PREFIX = "runner-demo-"
ACCOUNT, LOG, LOCK = "demo.json", "runner.log", ".lock"
_PARTS = ("state", "certs", "queue", "scratch")


@dataclass(frozen=True)
class Stage:
    """
    The directory as it was named, the same one absolute, and the temporary one.

    ``before`` is what an interrupted demo played here, None where this one begins; ``anew`` says why it does not go on.
    """

    named: Path
    directory: Path
    temporary: Path
    before: Playing | None = field(default=None)
    anew: str = ""

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

    def note(self, playing: Playing) -> None:
        """Keep what was played, for a demo that goes on here."""
        _write(self.directory / ACCOUNT, msgspec.json.encode(playing))

    def store(self, account: Account) -> None:
        """Keep the account beside the outputs."""
        _write(self.directory / ACCOUNT, msgspec.json.format(msgspec.json.encode(account), indent=2) + b"\n")


@contextmanager
def open_stage(named: Path) -> Iterator[Stage]:
    """
    Open a directory for one demo, which deletes what is temporary when it ended.

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
    before, anew = _found(directory)
    if before is not None:
        yield Stage(named, directory, Path(before.temporary), before)
        return
    stage = Stage(named, directory, _temporary(directory), anew=anew)
    stage.note(Playing(str(stage.temporary)))
    _forget_outputs(directory)
    yield stage


def _temporary(directory: Path) -> Path:
    temporary = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
    # Jobs may have users of their own, who must get to their workspaces; what lies in it is the owner's alone.
    temporary.chmod(0o711)
    (temporary / "of").write_text(str(directory), "utf-8")
    for part in _PARTS:
        (temporary / part).mkdir(mode=0o700)
    return temporary


def _found(directory: Path) -> tuple[Playing | None, str]:
    """Return what an interrupted demo played here; else why none goes on, "" where there never was one."""
    try:
        found = msgspec.json.decode((directory / ACCOUNT).read_bytes(), type=Playing)
    except FileNotFoundError:
        return None, ""
    except (OSError, msgspec.DecodeError):
        return None, "what stands there of an earlier demo cannot be read"
    if not found.temporary:
        return None, "the demo there has ended"
    if _is_ours(Path(found.temporary), directory):
        return found, ""
    return None, f"what an interrupted demo left at {found.temporary} is gone"


def _is_ours(temporary: Path, directory: Path) -> bool:
    """Tell whether a temporary directory is a demo's, of this user, and of this directory."""
    try:
        state = temporary.lstat()
    except OSError:
        return False
    ours = stat.S_ISDIR(state.st_mode) and state.st_uid == os.geteuid() and temporary.name.startswith(PREFIX)
    return ours and _read(temporary / "of") == str(directory)


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
