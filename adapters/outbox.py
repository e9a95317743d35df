"""
The private directory that outputs leave through: second names for the files that were checked, and packed ones.

It is made at the first use, so that a job without outputs costs nothing here.
"""

from __future__ import annotations

import errno
import hashlib
import os

from adapters.beneath import DIRECTORY, NEW_FILE
from adapters.copying import copy
from adapters.files import OWNER_DIRECTORY, OWNER_FILE
from adapters.interruptible import Stop

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Outbox:
    """One output's part of the directory at ``path``; what an earlier collection of it left there is deleted."""

    def __init__(self, path: str, output: str) -> None:
        self._path = path
        self._prefix = hashlib.sha256(output.encode()).hexdigest()[:32]
        self._directory = -1
        self._count = 0

    @property
    def count(self) -> int:
        """How many files were taken."""
        return self._count

    def close(self) -> None:
        """Close what is open; the files stay."""
        if self._directory >= 0:
            os.close(self._directory)

    def take(self, fd: int, stop: Stop) -> str:
        """Give an open file a name of its own, by copying it where it cannot have two; return its path."""
        name = f"{self._prefix}.{self._count}"
        self._count += 1
        try:
            os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=self._opened(), follow_symlinks=True)
        except OSError as error:
            if error.errno in _FULL:
                raise
            self._copy(fd, name, stop)
        return f"{self._path}/{name}"

    def new_file(self) -> tuple[int, str]:
        """Return a new file for what is packed, open, and its path; the caller closes it."""
        name = f"{self._prefix}.packed"
        return os.open(name, NEW_FILE, OWNER_FILE, dir_fd=self._opened()), f"{self._path}/{name}"

    def _opened(self) -> int:
        if self._directory < 0:
            is_new = _make(self._path)
            self._directory = os.open(self._path, DIRECTORY)
            if not is_new:
                self._remove_earlier(self._directory)
        return self._directory

    def _remove_earlier(self, directory: int) -> None:
        for name in os.listdir(directory):
            if name.startswith(self._prefix):
                os.unlink(name, dir_fd=directory)

    def _copy(self, fd: int, name: str, stop: Stop) -> None:
        target = os.open(name, NEW_FILE, OWNER_FILE, dir_fd=self._opened())
        try:
            copy(fd, target, stop)
        finally:
            os.close(target)


def _make(path: str) -> bool:
    """Make a directory and those above it; False where it stands."""
    try:
        os.mkdir(path, OWNER_DIRECTORY)
    except FileExistsError:
        return False
    except FileNotFoundError:
        os.makedirs(path, OWNER_DIRECTORY, exist_ok=True)
    return True
