"""
The ``folder://`` store: files of this machine, or of a shared file system mounted here.

Reads and writes only below the directories that the queue's rights name. A file is written without a name where the
file system allows that, synced, then renamed: seen whole or not at all, and a kill leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator

from adapters.beneath import DIRECTORY, REGULAR, NotRegular, kind_of, open_regular
from adapters.copying import copy
from adapters.files import OWNER_FILE, explain, write_all
from adapters.interruptible import Stop, interruptibly
from adapters.stores.allowed import AllowedPaths, Place
from adapters.trees import Found, walk
from runner.credential import Rights
from runner.errors import OutOfSpace, Refused, RunnerError, Unavailable
from runner.ports import Stat

_TEMPORARY = ".runner-part-"
_UNNAMED = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
_NAMED = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_REFUSALS = {
    errno.ENOENT: "there is no such file or directory",
    errno.EACCES: "this user may not do that: look at the modes of the file and of the directories above it",
    errno.EPERM: "this user may not do that: look at the owner and attributes of the file",
    errno.EROFS: "the file system is mounted read-only",
    errno.ENOTDIR: "a part of the path is no directory",
    errno.EISDIR: "it is a directory: name a file in it",
    errno.ENAMETOOLONG: "a name is too long for the file system",
    errno.ELOOP: "its links lead in a circle",
}


class FolderStore:
    """
    Files below the directories that ``rights`` name; ``folder://`` URLs hold plain paths, nothing is escaped.

    ``umask`` says who may read what is stored, where the process's own is a stricter one.
    """

    def __init__(self, rights: Rights, *, umask: int | None = None) -> None:
        self._allowed = AllowedPaths(rights, directory_mode=None if umask is None else 0o777 & ~umask)
        self._mode = None if umask is None else 0o666 & ~umask

    async def head(self, url: str) -> Stat:
        return await interruptibly("store", lambda _: self._head(url))

    async def get(self, url: str, path: str) -> Stat:
        return await interruptibly("store", lambda stop: self._get(url, path, stop))

    async def put(self, path: str, url: str) -> Stat:
        def fill(target: int, stop: Stop) -> None:
            source = os.open(path, REGULAR)
            try:
                copy(source, target, stop)
            finally:
                os.close(source)

        return await interruptibly("store", lambda stop: self._put(url, fill, stop))

    async def put_bytes(self, data: bytes, url: str) -> Stat:
        return await interruptibly(
            "store", lambda stop: self._put(url, lambda target, _: write_all(target, data), stop)
        )

    async def list(self, url: str) -> tuple[str, ...]:
        return await interruptibly("store", lambda stop: self._list(url, stop))

    async def close(self) -> None:
        """Nothing is open between calls."""

    def _head(self, url: str) -> Stat:
        with _told("reading", url), self._place(url) as place:
            fd, found = open_regular(place.name, place.directory)
            os.close(fd)
            return _stat(found)

    def _get(self, url: str, path: str, stop: Stop) -> Stat:
        with _told("reading", url), self._place(url) as place:
            source, before = open_regular(place.name, place.directory)
            try:
                _copy_out(source, path, stop)
                after = os.fstat(source)
            finally:
                os.close(source)
        if _stat(before) != _stat(after):
            os.unlink(path)
            raise Unavailable(f"{url} changed while it was read: trying again will read it whole")
        return _stat(before)

    def _put(self, url: str, fill: Callable[[int, Stop], None], stop: Stop) -> Stat:
        if url.endswith("/"):
            raise Refused(f"{url} names a directory: a file needs a name")
        with _told("writing", url), self._place(url, make=True) as place:
            _check_replaceable(place)
            with _whole(place) as target:
                if self._mode is not None:
                    os.fchmod(target, self._mode)
                fill(target, stop)
                os.fsync(target)
            os.fsync(place.directory)
            return _stat(os.stat(place.name, dir_fd=place.directory, follow_symlinks=False))

    def _list(self, url: str, stop: Stop) -> tuple[str, ...]:
        with _told("listing", url), contextlib.suppress(FileNotFoundError), self._place(url) as place:
            found = os.stat(place.name, dir_fd=place.directory, follow_symlinks=False)
            if stat.S_ISREG(found.st_mode):
                return (url,)
            root = os.open(place.name, DIRECTORY, dir_fd=place.directory)
            try:
                return tuple(sorted(_urls_below(url, root, stop)))
            finally:
                os.close(root)
        return ()

    @contextlib.contextmanager
    def _place(self, url: str, *, make: bool = False) -> Iterator[Place]:
        place = self._allowed.locate(url, make=make)
        try:
            yield place
        finally:
            os.close(place.directory)


def _urls_below(url: str, root: int, stop: Stop) -> Iterator[str]:
    for found in walk(root):
        stop.check()
        if stat.S_ISREG(found.state.st_mode) and not found.name.startswith(_TEMPORARY):
            yield f"{url.rstrip('/')}/{_path(found)}"


def _path(found: Found) -> str:
    return "/".join((*found.above, found.name))


def _stat(found: os.stat_result) -> Stat:
    return Stat(found.st_size, f"{found.st_size}-{found.st_mtime_ns}-{found.st_ino}")


def _copy_out(source: int, path: str, stop: Stop) -> None:
    """Copy into a local file, of which nothing stays unless all of it does."""
    target = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, OWNER_FILE)
    try:
        copy(source, target, stop)
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(target)


def _check_replaceable(place: Place) -> None:
    """Only a file gives way to a file: a directory could not, and a FIFO or device is somebody's on purpose."""
    try:
        mode = os.stat(place.name, dir_fd=place.directory, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise NotRegular(kind_of(mode))


@contextlib.contextmanager
def _whole(place: Place) -> Iterator[int]:
    """Give a new file to fill, which takes its name when the body ends well and vanishes when it does not."""
    temporary = _TEMPORARY + secrets.token_hex(8)
    target, is_named = _open_new(temporary, place.directory)
    try:
        yield target
        if not is_named:
            os.link(f"/proc/self/fd/{target}", temporary, dst_dir_fd=place.directory, follow_symlinks=True)
            is_named = True
        os.rename(temporary, place.name, src_dir_fd=place.directory, dst_dir_fd=place.directory)
        is_named = False
    finally:
        os.close(target)
        if is_named:
            os.unlink(temporary, dir_fd=place.directory)


def _open_new(temporary: str, directory: int) -> tuple[int, bool]:
    try:
        return os.open(".", _UNNAMED, 0o666, dir_fd=directory), False
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT):
            raise
    return os.open(temporary, _NAMED, 0o666, dir_fd=directory), True


@contextlib.contextmanager
def _told(doing: str, url: str) -> Iterator[None]:
    """Say what a failed system call means for the one who asked."""
    try:
        yield
    except NotRegular as error:
        raise Refused(f"{doing} {url}: it is {error}: name a file{_instead(str(error))}") from None
    except OSError as error:
        raise _explained(error, doing, url) from error


def _instead(kind: str) -> str:
    return " in it, or an archive of it" if kind == "a directory" else ""


def _explained(error: OSError, doing: str, url: str) -> RunnerError:
    told = explain(error, doing, url)
    if isinstance(told, OutOfSpace) or error.errno not in _REFUSALS:
        return told
    return Refused(f"{doing} {url}: {_REFUSALS[error.errno]}")
