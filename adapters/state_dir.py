"""
The state directory: who this box is, that only one runner works from it, and where its files stand.

    <state-dir>/box-id  lock  journal.db  journal.key  spool/  queue/  control.sock

Blocking; opened once, before anything else.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import stat
import uuid

from adapters.files import OWNER_DIRECTORY, OWNER_FILE, create_whole
from runner.errors import ConfigurationError, StateLocked

PID_CHARACTERS = 10
SOCKET_PATH_MAX_BYTES = 107
"""``sun_path`` has room for 108, one of them the zero at the end; see unix(7)."""

_BY_OTHERS = stat.S_IWOTH
_ANOTHER = "name another one with --state-dir"


class StateDir:
    """One state directory. Opening it makes it, readable for its owner alone, where there is none."""

    def __init__(self, path: str) -> None:
        """
        Open or make it.

        Raises:
            ConfigurationError: it is no directory, another user's, open to others, or cannot be written.
        """
        self.path = os.path.abspath(path)
        try:
            os.makedirs(self.path, mode=OWNER_DIRECTORY, exist_ok=True)
            found = os.stat(self.path)
        except OSError as cause:
            raise self._refused(f"{cause.strerror}; make it by hand, or {_ANOTHER}") from cause
        self._check(found)

    @property
    def journal(self) -> str:
        """Where the journal stands."""
        return os.path.join(self.path, "journal.db")

    @property
    def journal_key(self) -> str:
        """Where the key of the journal's messages stands."""
        return os.path.join(self.path, "journal.key")

    @property
    def spool(self) -> str:
        """Where the jobs' logs stand."""
        return os.path.join(self.path, "spool")

    @property
    def queue(self) -> str:
        """Where the box's own queue stands."""
        return os.path.join(self.path, "queue")

    @property
    def socket(self) -> str:
        """
        Where the control socket stands.

        Raises:
            ConfigurationError: the path is longer than a socket's may be.
        """
        path = os.path.join(self.path, "control.sock")
        if len(os.fsencode(path)) > SOCKET_PATH_MAX_BYTES:
            raise ConfigurationError(
                f"the control socket {path} has a path of {len(os.fsencode(path))} bytes, a socket's may have "
                f"{SOCKET_PATH_MAX_BYTES}: name a shorter --state-dir"
            )
        return path

    def box_id(self) -> str:
        """
        Return this box's id, a UUID that is made at the first call and never changes.

        Raises:
            ConfigurationError: what stands in its file is none.
        """
        path = os.path.join(self.path, "box-id")
        try:
            if not os.path.exists(path):
                create_whole(path, f"{uuid.uuid4()}\n".encode())
            with open(path, encoding="ascii", errors="replace") as file:
                text = file.read().strip()
        except OSError as cause:
            raise self._refused(f"{cause.filename}: {cause.strerror}; {_ANOTHER}") from cause
        try:
            return str(uuid.UUID(text))
        except ValueError as cause:
            raise ConfigurationError(
                f"{path} holds {text[:50]!r}, which is no UUID: put the box's id back, or delete the file for a new one"
            ) from cause

    def lock(self) -> StateLock:
        """
        Take the directory for one runner, until it is closed or the process ends, however it ends.

        Raises:
            StateLocked: another runner has it; names its process.
            ConfigurationError: the file system cannot lock.
        """
        path = os.path.join(self.path, "lock")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_FILE)
        except OSError as cause:
            raise self._refused(f"{path}: {cause.strerror}; {_ANOTHER}") from cause
        try:
            self._take(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return StateLock(descriptor)

    def _take(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as cause:
            pid = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise StateLocked(
                f"another runner, process {pid}, works from {self.path}: stop it (`kill {pid}`), or {_ANOTHER}"
            ) from cause
        except OSError as cause:
            raise self._refused(
                f"its file system cannot lock ({cause.strerror}); {_ANOTHER}, on a local disk"
            ) from cause
        self._sign(descriptor)

    def _sign(self, descriptor: int) -> None:
        """Write our pid over the last one's, at one length: on a disk that filled up meanwhile that needs no room."""
        try:
            os.pwrite(descriptor, f"{os.getpid():<{PID_CHARACTERS}}\n".encode(), 0)
        except OSError as cause:
            raise self._refused(f"{cause.strerror}; free some, or {_ANOTHER}") from cause

    def _check(self, found: os.stat_result) -> None:
        if not stat.S_ISDIR(found.st_mode):
            raise self._refused(f"it is no directory; {_ANOTHER}")
        if found.st_uid != os.geteuid():
            raise self._refused(
                f"it belongs to user {found.st_uid}, this is user {os.geteuid()}; run as that user, or {_ANOTHER}"
            )
        if found.st_mode & _BY_OTHERS:
            raise self._refused(f"everybody may write to it; run `chmod 700 {shlex.quote(self.path)}`")
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise self._refused(f"it cannot be written; mount it writable, `chmod 700` it, or {_ANOTHER}")

    def _refused(self, why: str) -> ConfigurationError:
        return ConfigurationError(f"cannot use the state directory {self.path}: {why}")


class StateLock:
    """The hold of one runner on its state directory."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def close(self) -> None:
        """Give it up; idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1
