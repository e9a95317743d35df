"""Objects by URL, the cache's store of them, and the directories that jobs run in."""

from __future__ import annotations

from typing import Protocol

import msgspec

from runner.job import Input, Key, Output
from runner.receipt import InputAccount


class Stat(msgspec.Struct, frozen=True):
    """An object: its size in bytes and a version that changes with its content."""

    size: int
    version: str


class Store(Protocol):
    """Objects by URL. ``folder://`` reads and writes files; a directory's URL ends in ``/`` or names one."""

    async def head(self, url: str) -> Stat:
        """
        Describe an object.

        Raises:
            Refused: not found, forbidden, or outside of what the rights name.
        """
        ...

    async def get(self, url: str, path: str) -> Stat:
        """
        Copy an object into a new local file; a partial one never stays.

        Raises:
            Refused: as ``head``.
            OutOfSpace: the local disk is full.
        """
        ...

    async def put(self, path: str, url: str) -> Stat:
        """
        Store a local file under the exact URL, replacing what stood there; seen whole or not at all.

        Raises:
            Refused: forbidden, or outside of what the rights name.
            OutOfSpace: the store is full.
        """
        ...

    async def put_bytes(self, data: bytes, url: str) -> Stat:
        """Store a small object; otherwise as ``put``."""
        ...

    async def list(self, url: str) -> tuple[str, ...]:
        """List the URLs of the objects below a prefix, sorted."""
        ...

    async def close(self) -> None:
        """Release what is open."""
        ...


class CollectedFile(msgspec.Struct, frozen=True):
    """
    One file of an output, to read from ``local`` until the workspace is removed; or a problem.

    ``path`` is the file's in the workspace; ``name`` is relative to the output's path (``a/b.txt``), for a single or
    packed file its last part (``model.bin``, ``model.tar.gz``). ``digest`` is ``sha256:…``.
    """

    path: str
    name: str
    local: str
    bytes: int = 0
    problem: str = ""
    digest: str = ""


class BuildContext(msgspec.Struct, frozen=True):
    """
    What an image is built from: a local tar file, its digest and size; ``left_out`` counts links and special files.
    """

    local: str
    digest: str
    bytes: int
    left_out: int = 0


class Workspaces(Protocol):
    """The directories that jobs run in, one an attempt."""

    async def create(self, key: Key, attempt: int) -> str:
        """Make an empty workspace and return its reference; what an earlier life left there is deleted first."""
        ...

    async def place(self, workspace: str, item: Input, source: str | None) -> InputAccount:
        """
        Put one input at its path: ``source`` is a local file, None for a text input; unpacked where asked, read-only
        unless mutable.

        Raises:
            Refused: the path or a member of the archive would leave the workspace, the digest differs, or the archive
                holds what may not be unpacked; names the member.
            OutOfSpace: the disk is full.
        """
        ...

    async def collect(self, workspace: str, output: Output, job_id: str) -> tuple[CollectedFile, ...]:
        """
        Walk one output after the container is gone: regular files only, never through a link.

        What cannot be stored (never written, a link, FIFO, device, socket, sparse beyond its blocks) comes with a
        problem instead of a local path. Packed outputs come as one file.
        """
        ...

    async def read_text(self, workspace: str, path: str) -> str:
        """
        Read a text of at most 1 MiB that stands there.

        Raises:
            Refused: it is none.
        """
        ...

    async def pack_context(
        self, workspace: str, path: str, *, dockerfile: tuple[str, str], limit_bytes: int
    ) -> BuildContext:
        """
        Pack a directory of the workspace, with another text for its Dockerfile (name there, text): the same bytes for
        the same files. It stands until ``drop_context``, or until the workspace is removed.

        Raises:
            Refused: it cannot be read, or takes more than ``limit_bytes``.
            OutOfSpace: the disk is full.
        """
        ...

    async def drop_context(self, workspace: str) -> None:
        """Delete what was packed; idempotent."""
        ...

    async def used_bytes(self, workspace: str) -> int:
        """Measure what the workspace occupies."""
        ...

    async def remove(self, workspace: str) -> None:
        """Delete a workspace; idempotent."""
        ...

    async def prune(self, before: float, keep: frozenset[str]) -> int:
        """Delete workspaces last changed before this epoch second but for ``keep``; return how many."""
        ...

    async def free_bytes(self) -> int:
        """Return what the disk under the workspaces has free."""
        ...


class Blob(msgspec.Struct, frozen=True):
    """One object of the cache: its digest, size, local path (read only)."""

    digest: str
    size: int
    path: str


class Blobs(Protocol):
    """The content-addressed store under the cache; the actor owns single flight and pins."""

    async def find(self, url: str, version: str, scope: str) -> Blob | None:
        """Return the blob that this version of the URL was filled with under this credential scope."""
        ...

    def new_file(self) -> str:
        """Return the path of a temporary file on the same disk; the caller fills it and hands it to ``add``."""
        ...

    async def add(self, path: str, *, url: str, version: str, scope: str) -> Blob:
        """Hash a filled file and move it in."""
        ...

    async def evict(self, limit_bytes: int, pinned: frozenset[str]) -> int:
        """
        Delete least recently used blobs until at most ``limit_bytes`` are left, never a pinned digest; return bytes.
        """
        ...
