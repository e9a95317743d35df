"""
Opens what lies below a directory, never through a link.

A job owns its workspace and may exchange any name in it between a look and an opening. So every step is taken from an
open directory, refuses links, and what was opened is looked at again. Everything here blocks; call it from a thread.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
REGULAR = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Non-blocking, so that a FIFO which took the file's place cannot hold the thread."""
NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class NotRegular(Exception):
    """What stands at a name is no regular file; the text says what it is, as in ``a link``, ``a FIFO``."""


def parts_of(path: str) -> tuple[str, ...]:
    """Return the names of a relative path; ``a//b/`` and ``./a/b`` are ``a/b``, and ``.`` has none."""
    return tuple(part for part in path.split("/") if part not in ("", "."))


def open_directory(root: int, parts: Iterable[str], *, make: bool = False) -> int:
    """
    Return the directory ``parts`` below an open one; the caller closes it. With ``make`` missing ones are made.

    Raises:
        OSError: a part is missing, or no directory; a link counts as none.
    """
    at = os.dup(root)
    for part in parts:
        try:
            inner = _enter(part, at, make=make)
        finally:
            os.close(at)
        at = inner
    return at


def _enter(name: str, at: int, *, make: bool) -> int:
    try:
        return os.open(name, DIRECTORY, dir_fd=at)
    except FileNotFoundError:
        if not make:
            raise
    writable(at, lambda: _make_directory(name, at))
    return os.open(name, DIRECTORY, dir_fd=at)


def _make_directory(name: str, at: int) -> None:
    try:
        os.mkdir(name, 0o755, dir_fd=at)
    except FileExistsError:
        return


def open_regular(name: str, at: int) -> tuple[int, os.stat_result]:
    """
    Return a regular file, open for reading, and what it was when it was opened; the caller closes it.

    Raises:
        NotRegular: something else stands there.
        OSError: it is missing or may not be read.
    """
    _check_regular(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode)
    try:
        fd = os.open(name, REGULAR, dir_fd=at)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotRegular("a link") from None
        raise
    found = os.fstat(fd)
    try:
        _check_regular(found.st_mode)
    except NotRegular:
        os.close(fd)
        raise
    return fd, found


def _check_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise NotRegular(kind_of(mode))


def kind_of(mode: int) -> str:
    """Say what a file mode stands for, with its article."""
    match stat.S_IFMT(mode):
        case stat.S_IFREG:
            return "a file"
        case stat.S_IFDIR:
            return "a directory"
        case stat.S_IFLNK:
            return "a link"
        case stat.S_IFIFO:
            return "a FIFO"
        case stat.S_IFSOCK:
            return "a socket"
        case _:
            return "a device"


def writable(directory: int, change: Callable[[], None]) -> None:
    """Make a change in a directory, for that moment also in a read-only one of our own."""
    try:
        change()
    except PermissionError:
        mode = stat.S_IMODE(os.fstat(directory).st_mode)
        if mode & stat.S_IWUSR:
            raise
        os.fchmod(directory, mode | stat.S_IRWXU)
        try:
            change()
        finally:
            os.fchmod(directory, mode)
