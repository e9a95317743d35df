"""
The private directory that one output leaves through: second names for the files that were checked, and packed ones.

It is made at the first use, so that a job without outputs costs nothing here.
"""

from __future__ import annotations

import errno
import os

from adapters.beneath import DIRECTORY, NEW_FILE
from adapters.copying import copy
from adapters.files import OWNER_DIRECTORY, OWNER_FILE
from adapters.interruptible import Stop
from adapters.trees import remove_tree

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Outbox:
    """One output's directory at ``path``; what an earlier collection left there is deleted."""

    def __init__(self, path: str) -> None:
        self._path = path
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
        name = str(self._count)
        self._count += 1
        try:
            os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=self._opened(), follow_symlinks=True)
        except OSError as error:
            if error.errno in _FULL:
                raise
            self._copy(fd, name, stop)
        return f"{self._path}/{name}"

    def new_file(self, name: str) -> tuple[int, str]:
        """Return a new file, open, and its path; the caller closes it."""
        return os.open(name, NEW_FILE, OWNER_FILE, dir_fd=self._opened()), f"{self._path}/{name}"

    def _opened(self) -> int:
        if self._directory < 0:
            remove_tree(self._path)
            os.makedirs(self._path, OWNER_DIRECTORY)
            self._directory = os.open(self._path, DIRECTORY)
        return self._directory

    def _copy(self, fd: int, name: str, stop: Stop) -> None:
        target, _ = self.new_file(name)
        try:
            copy(fd, target, stop)
        finally:
            os.close(target)
