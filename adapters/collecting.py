"""
Takes the outputs out of a workspace that a hostile job may have left, or may still be changing.

Each file is looked at through the descriptor it was opened by and gets a second name in a private directory, so that
what is read later is what was checked; where the file system cannot do that it is copied. Everything here blocks; call
it from a thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from adapters.beneath import DIRECTORY, NotRegular, kind_of, open_directory, open_regular, parts_of
from adapters.copying import hash_file
from adapters.interruptible import Stop
from adapters.outbox import Outbox
from adapters.packing import Pack, open_pack
from adapters.trees import Found, walk
from runner.job import Output
from runner.ports import CollectedFile
from runner.units import format_size

_UNREADABLE = frozenset({errno.EACCES, errno.EPERM, errno.EIO, errno.ENXIO, errno.ENOENT})
_SPARSE_FROM_BYTES = 1 << 20
_SPARSE_FACTOR = 8
"""Compression makes blocks of a file a few times fewer than its bytes; holes make them fewer without end."""


@dataclass(frozen=True)
class CollectLimits:
    """
    What one output may come to.

    ``file_bytes`` is the length of one file, ``hole_bytes`` all that was never written in the files of an output (and
    would be stored as zeros), ``files`` how many are stored one by one. ``trust_second_names`` says that the kernel
    lets nobody make a second name for a file that he could not read (``fs.protected_hardlinks``).
    """

    file_bytes: int = 1 << 42
    hole_bytes: int = 256 << 20
    files: int = 100_000
    trust_second_names: bool = True


class Collecting:
    """One output on its way out; ``workspace`` is an open directory."""

    def __init__(self, workspace: int, outbox: Outbox, limits: CollectLimits, stop: Stop) -> None:
        self._workspace, self._outbox = workspace, outbox
        self._limits, self._stop = limits, stop
        self._holes = 0

    def collect(self, output: Output, job_id: str) -> Iterator[CollectedFile]:
        """Yield the files of an output, or one that is packed, and what cannot be stored with its problem."""
        parts = parts_of(output.path)
        try:
            parent = open_directory(self._workspace, parts[:-1])
        except FileNotFoundError:
            yield _problem(output.path, "was not written")
            return
        except OSError:
            yield _problem(output.path, "stands behind a link or a file, which is not followed")
            return
        try:
            name = parts[-1] if parts else "."
            yield from self._found(output, parent, name, job_id if name == "." else name)
        finally:
            os.close(parent)

    def _found(self, output: Output, at: int, name: str, called: str) -> Iterator[CollectedFile]:
        try:
            mode = os.stat(name, dir_fd=at, follow_symlinks=False).st_mode
        except FileNotFoundError:
            yield _problem(output.path, "was not written")
            return
        match stat.S_IFMT(mode):
            case stat.S_IFREG | stat.S_IFDIR if output.pack:
                yield from self._packed(output, at, name, called)
            case stat.S_IFREG:
                yield self._single(output.path, name, called, at)
            case stat.S_IFDIR:
                yield from self._each(output, at, name)
            case _:
                yield _problem(output.path, f"is {kind_of(mode)}, which is not stored")

    # Files as they are

    def _each(self, output: Output, at: int, name: str) -> Iterator[CollectedFile]:
        nothing = True
        for found, path in self._inside(output, at, name):
            nothing = False
            inner = "/".join((*found.above, found.name))
            if self._outbox.count >= self._limits.files:
                yield _problem(output.path, f"holds more than {self._limits.files} files: pack it")
                return
            yield self._single(path, found.name, inner, found.at)
        if nothing:
            yield _problem(output.path, "holds no files")

    def _inside(self, output: Output, at: int, name: str) -> Iterator[tuple[Found, str]]:
        """Walk a directory; give what is no directory, with its path in the workspace."""
        root = os.open(name, DIRECTORY, dir_fd=at)
        try:
            for found in walk(root, ordered=True):
                if not stat.S_ISDIR(found.state.st_mode):
                    yield found, "/".join((*parts_of(output.path), *found.above, found.name))
        finally:
            os.close(root)

    def _single(self, path: str, name: str, called: str, at: int) -> CollectedFile:
        with self._opened(path, name, at) as opened:
            match opened:
                case CollectedFile():
                    return opened
                case fd, _:
                    local = self._outbox.take(fd, self._stop)
                    size, digest = hash_file(fd, self._stop)
                    return CollectedFile(path, called, local, size, digest=digest)

    @contextlib.contextmanager
    def _opened(self, path: str, name: str, at: int) -> Iterator[tuple[int, os.stat_result] | CollectedFile]:
        """Give an open regular file that may be stored, or the problem with it."""
        try:
            fd, state = open_regular(name, at)
        except NotRegular as error:
            yield _problem(path, f"is {error}, which is not stored")
            return
        except OSError as error:
            if error.errno not in _UNREADABLE:
                raise
            yield _problem(path, f"cannot be read: {error.strerror}")
            return
        try:
            problem = self._problem_with(path, state)
            yield _problem(path, problem) if problem else (fd, state)
        finally:
            os.close(fd)

    def _problem_with(self, path: str, state: os.stat_result) -> str:
        self._stop.check()
        written = state.st_blocks * 512
        if state.st_size > self._limits.file_bytes:
            return (
                f"is {format_size(state.st_size)} long, more than is stored; {format_size(written)} of it was written"
            )
        if state.st_size > max(_SPARSE_FROM_BYTES, _SPARSE_FACTOR * written):
            self._holes += state.st_size - written
            if self._holes > self._limits.hole_bytes:
                return f"is sparse: {format_size(state.st_size)} long, {format_size(written)} of it written"
        if state.st_nlink > 1 and not self._limits.trust_second_names:
            return "has a second name, and this machine lets anybody make one (sysctl fs.protected_hardlinks=1)"
        return "" if _is_text(path) else "has a name that is not UTF-8"

    # Packed

    def _packed(self, output: Output, at: int, name: str, called: str) -> Iterator[CollectedFile]:
        fd, local = self._outbox.new_file()
        try:
            with os.fdopen(os.dup(fd), "wb") as file, open_pack(file, output.pack, self._stop) as pack:
                yield from self._fill(pack, output, at, name, called)
            size, digest = hash_file(fd, self._stop)
        finally:
            os.close(fd)
        yield CollectedFile(output.path, f"{called}.{output.pack}", local, size, digest=digest)

    def _fill(self, pack: Pack, output: Output, at: int, name: str, called: str) -> Iterator[CollectedFile]:
        """Pack a file or what a directory holds; yield what is left out, with its problem."""
        if stat.S_ISREG(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
            yield from self._pack_one(pack, output.path, name, called, at)
            return
        root = os.open(name, DIRECTORY, dir_fd=at)
        try:
            for found in walk(root, ordered=True):
                inner = "/".join((*found.above, found.name))
                path = "/".join((*parts_of(output.path), inner))
                if not stat.S_ISDIR(found.state.st_mode):
                    yield from self._pack_one(pack, path, found.name, inner, found.at)
                elif _is_text(inner):
                    pack.add_directory(inner)
        finally:
            os.close(root)

    def _pack_one(self, pack: Pack, path: str, name: str, inner: str, at: int) -> Iterator[CollectedFile]:
        with self._opened(path, name, at) as opened:
            match opened:
                case CollectedFile():
                    yield opened
                case fd, state:
                    pack.add_file(inner, fd, state)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _problem(path: str, problem: str) -> CollectedFile:
    shown = path.encode("utf-8", "backslashreplace").decode()
    return CollectedFile(shown, "", "", problem=problem)
