"""
The content-addressed cache of inputs: ``sha256/ab/<hex>`` holds each content once, ``index/`` says what a URL was.

Everything appears by a rename, so a kill leaves nothing half; several runners may share one directory. The time of a
blob's last change is the time of its last use.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from adapters.copying import hash_file
from adapters.files import OWNER_DIRECTORY, explained, names_in, remove_file, sync_directory, write_whole
from adapters.interruptible import Stop, interruptibly
from adapters.worker import Worker
from runner.errors import Unavailable
from runner.ports import Blob

READ_ONLY = 0o444
STALE_S = 86400.0
"""A temporary file that was not written to for so long belongs to a life of the runner that ended."""


class _Filled(msgspec.Struct, frozen=True):
    """One line of the index: what stood behind a URL at a version."""

    digest: str
    size: int


class _Stored(NamedTuple):
    """A blob as eviction sees it; ordered by its last use."""

    used_at: float
    size: int
    digest: str


class FolderBlobs:
    """Blobs below one directory. ``now`` gives epoch seconds; it only orders uses."""

    def __init__(self, root: str, now: Callable[[], float] = time.time) -> None:
        self._root = os.path.abspath(root)
        self._now = now
        # For what takes microseconds; hashing and eviction get threads of their own.
        self._quick = Worker("blobs")

    async def find(self, url: str, version: str, scope: str) -> Blob | None:
        return await self._quick.run(self._find, _name_of(url, version, scope))

    def new_file(self) -> str:
        directory = self._made("tmp")
        return os.path.join(directory, secrets.token_hex(16))

    async def add(self, path: str, *, url: str, version: str, scope: str) -> Blob:
        return await interruptibly("blobs", lambda stop: self._add(path, _name_of(url, version, scope), stop))

    async def evict(self, limit_bytes: int, pinned: frozenset[str]) -> int:
        return await interruptibly("blobs", lambda stop: self._evict(limit_bytes, pinned, stop))

    async def close(self) -> None:
        """Let the thread end; blobs stay."""
        self._quick.shutdown()

    def _made(self, *names: str) -> str:
        path = os.path.join(self._root, *names)
        with explained("making the cache", path):
            os.makedirs(path, OWNER_DIRECTORY, exist_ok=True)
        return path

    def _path(self, digest: str) -> str:
        name = digest.removeprefix("sha256:")
        return os.path.join(self._root, "sha256", name[:2], name)

    def _index_path(self, name: str) -> str:
        return os.path.join(self._root, "index", name[:2], name)

    def _find(self, name: str) -> Blob | None:
        filled = self._filled(name)
        if filled is None:
            return None
        path = self._path(filled.digest)
        try:
            found = os.stat(path)
            if found.st_size == filled.size:
                os.utime(path, (self._now(), self._now()))
                return Blob(filled.digest, filled.size, path)
        except FileNotFoundError:
            pass
        remove_file(self._index_path(name))
        return None

    def _filled(self, name: str) -> _Filled | None:
        """Read a line of the index; one that makes no sense counts as missing."""
        try:
            with open(self._index_path(name), "rb") as file:
                return msgspec.json.decode(file.read(), type=_Filled)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        except OSError as error:
            raise Unavailable(f"reading the cache {self._root}: {error.strerror}") from error

    def _add(self, path: str, name: str, stop: Stop) -> Blob:
        """Move a filled file in; when it was moved in by an earlier call of the same content, return that."""
        with explained("adding to the cache", self._root):
            if not os.path.exists(path) and (before := self._find(name)) is not None:
                return before
            size, digest = _settled(path, stop)
            blob = Blob(digest, size, self._path(digest))
            self._move_in(path, blob)
            index = self._index_path(name)
            os.makedirs(os.path.dirname(index), OWNER_DIRECTORY, exist_ok=True)
            write_whole(index, msgspec.json.encode(_Filled(digest, size)), durable=False)
            return blob

    def _move_in(self, path: str, blob: Blob) -> None:
        """Rename over what stands there: the same content, or a damaged one."""
        directory = os.path.dirname(blob.path)
        os.makedirs(directory, OWNER_DIRECTORY, exist_ok=True)
        os.utime(path, (self._now(), self._now()))
        os.rename(path, blob.path)
        sync_directory(directory)

    def _evict(self, limit_bytes: int, pinned: frozenset[str], stop: Stop) -> int:
        with explained("evicting from the cache", self._root):
            self._remove_stale()
            stored = sorted(self._stored(stop))
            excess, freed = sum(blob.size for blob in stored) - limit_bytes, 0
            for blob in stored:
                if freed >= excess:
                    break
                if blob.digest not in pinned and remove_file(self._path(blob.digest)):
                    freed += blob.size
            self._forget_evicted(stop)
            return freed

    def _stored(self, stop: Stop) -> Iterator[_Stored]:
        for path in _files_below(os.path.join(self._root, "sha256")):
            stop.check()
            with contextlib.suppress(FileNotFoundError):
                found = os.stat(path)
                yield _Stored(found.st_mtime, found.st_blocks * 512, f"sha256:{os.path.basename(path)}")

    def _forget_evicted(self, stop: Stop) -> None:
        for path in _files_below(os.path.join(self._root, "index")):
            stop.check()
            filled = self._filled(os.path.basename(path))
            if filled is None or not os.path.exists(self._path(filled.digest)):
                remove_file(path)

    def _remove_stale(self) -> None:
        directory = os.path.join(self._root, "tmp")
        for name in names_in(directory):
            path = os.path.join(directory, name)
            with contextlib.suppress(FileNotFoundError):
                if os.stat(path).st_mtime < self._now() - STALE_S:
                    os.unlink(path)


def _name_of(url: str, version: str, scope: str) -> str:
    return hashlib.sha256(f"{scope}\0{version}\0{url}".encode("utf-8", "surrogateescape")).hexdigest()


def _settled(path: str, stop: Stop) -> tuple[int, str]:
    """Hash a file, shut it, and wait until it is on the disk: a power cut must not leave the right name on zeros."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        size, digest = hash_file(fd, stop)
        os.fchmod(fd, stat.S_IMODE(READ_ONLY))
        os.fsync(fd)
        return size, digest
    finally:
        os.close(fd)


def _files_below(directory: str) -> Iterator[str]:
    for inner in names_in(directory):
        for name in names_in(os.path.join(directory, inner)):
            yield os.path.join(directory, inner, name)
