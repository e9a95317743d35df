"""
One lock file a GPU, shared by all runners of a machine, so that no two of them hand out the same card.

The kernel lets go of a lock when its process ends, however it ends. Files are never deleted: a runner could hold the
lock of one that another has just replaced.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re

from runner.errors import Unavailable

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class GpuLocks:
    """The locks that this runner holds."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        # UUID to the open file whose lock we have.
        self._held: dict[str, int] = {}

    def lock(self, uuid: str) -> bool:
        """
        Take the lock of one GPU; True where we had it already, False where another runner has it.

        Raises:
            Unavailable: the file cannot be opened.
        """
        if uuid in self._held:
            return True
        descriptor = self._open(uuid)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._held[uuid] = descriptor
        return True

    def unlock(self, uuid: str) -> None:
        """Give one back; idempotent."""
        descriptor = self._held.pop(uuid, None)
        if descriptor is not None:
            os.close(descriptor)

    def unlock_all(self) -> None:
        """Give all back."""
        for uuid in tuple(self._held):
            self.unlock(uuid)

    def _open(self, uuid: str) -> int:
        if not _SAFE.fullmatch(uuid):
            raise Unavailable(f"{uuid!r} cannot name the lock of a GPU")
        path = os.path.join(self._directory, uuid)
        try:
            self._create(path)
            # Reading is enough to lock, and all that another user's file may allow.
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise Unavailable(f"the lock of GPU {uuid} cannot be taken: {error}; look at {self._directory}") from error

    def _create(self, path: str) -> None:
        if os.path.lexists(path):
            return
        if not os.path.isdir(self._directory):
            os.makedirs(self._directory, exist_ok=True)
            # Any user's runner may add the lock of a card, and none may take another's away.
            os.chmod(self._directory, 0o1777)  # noqa: S103 - as /tmp and /run/lock themselves
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)
            os.fchmod(descriptor, 0o644)
            os.close(descriptor)
