"""
Files that logs are appended to, below a directory that an administrator named; blocking.

No link is followed below that directory. A write that fails leaves the file as long as it was, so that it can be tried
again. A full file is renamed to ``.1``, that to ``.2`` and so on, and the oldest goes.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from adapters.beneath import open_directory
from adapters.files import explain, write_all
from runner.errors import ConfigurationError, RunnerError

GROUP_FILE = 0o640
GROUP_DIRECTORY = 0o750
TAIL_BYTES = 1 << 20
"""Searched for the last record."""
DOING = "write log"
_MODE = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EROFS})


def append(root: str, path: str, data: bytes, *, fresh_line: bool, rotate_bytes: int, keep: int) -> None:
    """
    Add to the file ``path`` below ``root``; ``fresh_line`` begins a line where one was left unfinished.

    It is rotated first where it would become larger than ``rotate_bytes``; 0: never.
    """
    with _opened_below(root, path) as (directory, name):
        fd = _open(directory, name)
        try:
            size_bytes = os.fstat(fd).st_size
            if rotate_bytes and size_bytes and size_bytes + len(data) > rotate_bytes:
                os.close(fd)
                _rotate(directory, name, keep)
                fd, size_bytes = _open(directory, name), 0
            if fresh_line and size_bytes and os.pread(fd, 1, size_bytes - 1) != b"\n":
                data = b"\n" + data
            _append_all(fd, data, size_bytes)
        finally:
            os.close(fd)


def tail(root: str, path: str, limit_bytes: int = TAIL_BYTES) -> bytes:
    """Return the end of a file; b"" where there is none."""
    try:
        with _opened_below(root, path) as (directory, name):
            fd = _open(directory, name)
            try:
                return os.pread(fd, limit_bytes, max(0, os.fstat(fd).st_size - limit_bytes))
            finally:
                os.close(fd)
    except FileNotFoundError:
        return b""


def cut(root: str, path: str, surplus_bytes: int) -> None:
    """Take the last bytes of a file away: the half of a line that a kill left."""
    with _opened_below(root, path) as (directory, name):
        fd = _open(directory, name)
        try:
            os.ftruncate(fd, max(0, os.fstat(fd).st_size - surplus_bytes))
        finally:
            os.close(fd)


@contextmanager
def _opened_below(root: str, path: str) -> Iterator[tuple[int, str]]:
    try:
        os.makedirs(root, GROUP_DIRECTORY, exist_ok=True)
        top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            *folders, name = path.split("/")
            directory = open_directory(top, folders, make=True)
        finally:
            os.close(top)
        try:
            yield directory, name
        finally:
            os.close(directory)
    except OSError as error:
        raise _explained(error, f"{root}/{path}") from error


def _explained(error: OSError, path: str) -> RunnerError:
    if error.errno in _DENIED:
        what = "a link or no file stands there" if error.errno == errno.ELOOP else error.strerror
        return ConfigurationError(f"{DOING}: {path}: {what}: name a place where this user may write files")
    return explain(error, DOING, path)


def _open(directory: int, name: str) -> int:
    created = False
    try:
        fd = os.open(name, _MODE, dir_fd=directory)
    except FileNotFoundError:
        fd, created = os.open(name, _MODE | os.O_CREAT, GROUP_FILE, dir_fd=directory), True
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(fd)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if created:
        os.fchmod(fd, GROUP_FILE)
    return fd


def _append_all(fd: int, data: bytes, size_bytes: int) -> None:
    try:
        write_all(fd, data)
    except OSError:
        with suppress(OSError):
            os.ftruncate(fd, size_bytes)
        raise


def _rotate(directory: int, name: str, keep: int) -> None:
    names = [name, *(f"{name}.{number}" for number in range(1, keep + 1))]
    for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
        with suppress(FileNotFoundError):
            os.rename(newer, older, src_dir_fd=directory, dst_dir_fd=directory)
