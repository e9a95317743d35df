"""
Packs files into tar, tar.gz or zip, the same bytes for the same files: owners and times are left out, names sorted.

So an upload that did not change has the same digest and is stored once. Everything here blocks; call it from a thread.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Protocol, cast

from adapters.beneath import DIRECTORY, open_regular
from adapters.copying import BLOCK_BYTES
from adapters.ignore import IGNORE_FILE, Ignore
from adapters.interruptible import Stop
from adapters.trees import Found, walk
from runner.errors import Refused

_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest that the format can say."""


class Pack(Protocol):
    """An archive being written."""

    def add_directory(self, name: str) -> None:
        """Add a directory."""
        ...

    def add_file(self, name: str, fd: int, state: os.stat_result) -> None:
        """
        Add what an open file holds, to the length that ``state`` says.

        Raises:
            OSError: it is shorter by now.
        """
        ...


@contextlib.contextmanager
def open_pack(file: IO[bytes], form: str, stop: Stop) -> Iterator[Pack]:
    """Give an archive of the form ``tar``, ``tar.gz`` or ``zip`` that is written into an open file."""
    match form:
        case "zip":
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                yield _Zip(archive, stop)
        case "tar.gz":
            with gzip.GzipFile("", "wb", 6, file, mtime=0) as packed, _open_tar(cast("IO[bytes]", packed)) as archive:
                yield _Tar(archive, stop)
        case _:
            with _open_tar(file) as archive:
                yield _Tar(archive, stop)


def _open_tar(file: IO[bytes]) -> tarfile.TarFile:
    return tarfile.TarFile(fileobj=file, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8")


class _Tar:
    def __init__(self, archive: tarfile.TarFile, stop: Stop) -> None:
        self._archive, self._stop = archive, stop

    def add_directory(self, name: str) -> None:
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        self._archive.addfile(entry)
        self._archive.getmembers().clear()  # it keeps them all, and a tree may hold millions

    def add_file(self, name: str, fd: int, state: os.stat_result) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = state.st_size, _mode(state)
        with _reading(fd, self._stop) as data:
            self._archive.addfile(entry, data)
        self._archive.getmembers().clear()


class _Zip:
    def __init__(self, archive: zipfile.ZipFile, stop: Stop) -> None:
        self._archive, self._stop = archive, stop

    def add_directory(self, name: str) -> None:
        entry = zipfile.ZipInfo(f"{name}/", _ZIP_DATE)
        entry.external_attr = (stat.S_IFDIR | 0o755) << 16
        self._archive.writestr(entry, b"")

    def add_file(self, name: str, fd: int, state: os.stat_result) -> None:
        entry = zipfile.ZipInfo(name, _ZIP_DATE)
        entry.compress_type, entry.file_size = zipfile.ZIP_DEFLATED, state.st_size
        entry.external_attr = (stat.S_IFREG | _mode(state)) << 16
        with _reading(fd, self._stop) as data, self._archive.open(entry, "w") as out:
            while block := data.read(BLOCK_BYTES):
                out.write(block)


def _mode(state: os.stat_result) -> int:
    return 0o755 if state.st_mode & stat.S_IXUSR else 0o644


@contextlib.contextmanager
def _reading(fd: int, stop: Stop) -> Iterator[IO[bytes]]:
    with io.BufferedReader(_Watched(fd, stop), BLOCK_BYTES) as data:
        yield cast("IO[bytes]", data)


class _Watched(io.RawIOBase):
    """An open file, read from its start as long as the packing is wanted."""

    def __init__(self, fd: int, stop: Stop) -> None:
        super().__init__()
        self._fd, self._stop, self._offset = fd, stop, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        self._stop.check()
        count = os.preadv(self._fd, [buffer], self._offset)
        self._offset += count
        return count


@dataclass(frozen=True)
class Measure:
    """What packing a directory takes along: files and their bytes; ``left_out`` are links and the like, by path."""

    files: int
    bytes: int
    left_out: tuple[str, ...] = ()


def measure(directory: str) -> Measure:
    """
    Count what :func:`pack_directory` would take along.

    Raises:
        Refused: the directory cannot be read.
    """
    files, size, left_out = 0, 0, list[str]()
    with _opened(directory) as root:
        for found, name in _chosen(root):
            match stat.S_IFMT(found.state.st_mode):
                case stat.S_IFREG:
                    files, size = files + 1, size + found.state.st_size
                case stat.S_IFDIR:
                    pass
                case _:
                    left_out.append(name)
    return Measure(files, size, tuple(left_out))


def pack_directory(directory: str, target: str, stop: Stop | None = None) -> None:
    """
    Pack a directory into a new ``tar.gz``, without what its ``.runnerignore`` lists, links and special files.

    Raises:
        Refused: a file cannot be read, or changes meanwhile; names it.
    """
    stop = stop or Stop()
    with _opened(directory) as root, open(target, "xb") as file, open_pack(file, "tar.gz", stop) as pack:
        for found, name in _chosen(root):
            stop.check()
            _add(pack, found, name)


def _add(pack: Pack, found: Found, name: str) -> None:
    if stat.S_ISDIR(found.state.st_mode):
        pack.add_directory(name)
    if not stat.S_ISREG(found.state.st_mode):
        return
    try:
        add_regular(pack, found, name)
    except OSError as error:
        raise Refused(f"{name} cannot be packed: {error.strerror or error}; or list it in {IGNORE_FILE}") from error


def add_regular(pack: Pack, found: Found, name: str) -> None:
    """
    Add a regular file that a walk found; no link is followed.

    Raises:
        NotRegular, OSError: it is another kind by now, or cannot be read.
    """
    fd, state = open_regular(found.name, found.at)
    try:
        pack.add_file(name, fd, state)
    finally:
        os.close(fd)


@contextlib.contextmanager
def _opened(directory: str) -> Iterator[int]:
    try:
        root = os.open(os.path.realpath(directory), DIRECTORY)
    except OSError as error:
        raise Refused(f"{directory} cannot be read: {error.strerror}") from error
    try:
        yield root
    finally:
        os.close(root)


def _chosen(root: int) -> Iterator[tuple[Found, str]]:
    """Walk a directory in order, with the path of each entry, as far as its rules take it along."""
    ignore = Ignore(_ignore_lines(root))

    def enters(above: Sequence[str], name: str) -> bool:
        return not ignore.leaves_out((*above, name), is_directory=True)

    for found in walk(root, ordered=True, enter=enters):
        parts = (*found.above, found.name)
        if not ignore.leaves_out(parts, is_directory=stat.S_ISDIR(found.state.st_mode)):
            yield found, "/".join(parts)


def _ignore_lines(root: int) -> list[str]:
    try:
        fd, _ = open_regular(IGNORE_FILE, root)
    except FileNotFoundError:
        return []
    with os.fdopen(fd, encoding="utf-8", errors="surrogateescape") as file:
        return file.read().splitlines()
