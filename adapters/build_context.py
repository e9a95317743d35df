"""
What an image is built from: a directory of a workspace as a tar file, its Dockerfile replaced by the one to be built.

A job may have made what stands there, so nothing is reached through a link, and nothing grows beyond its limit.
Everything here blocks; call it from a thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, cast

from adapters.beneath import NotRegular, open_directory, open_regular, parts_of
from adapters.interruptible import Stop
from adapters.packing import Pack, add_regular, open_pack
from adapters.trees import Found, walk
from runner.errors import Refused
from runner.ports import BuildContext
from runner.units import format_size

DOCKERFILE_MAX_BYTES = 1 << 20


def read_text(root: int, path: str) -> str:
    """
    Read a small text below an open directory.

    Raises:
        Refused: it is none, or too large.
    """
    *above, name = parts_of(path) or ("",)
    try:
        with _directory(root, tuple(above)) as at:
            fd, _ = open_regular(name, at)
            with os.fdopen(fd, "rb") as file:
                data = file.read(DOCKERFILE_MAX_BYTES + 1)
        if len(data) > DOCKERFILE_MAX_BYTES:
            raise Refused(f"build.dockerfile: {path} is over 1 MiB")
        return data.decode()
    except (OSError, NotRegular, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise Refused(f"build.dockerfile: {path} of the workspace cannot be read: {why}") from error


@dataclass
class _Bounded:
    """An open file that is hashed as it is written, and ends at a limit."""

    file: IO[bytes]
    limit_bytes: int
    written: int = 0

    def __post_init__(self) -> None:
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.written += len(data)
        if self.written > self.limit_bytes:
            raise Refused(
                f"build.path: it takes more than the {format_size(self.limit_bytes)} of disk that were granted"
            )
        self.digest.update(data)
        return self.file.write(data)

    def tell(self) -> int:
        return self.file.tell()


def pack_context(
    root: int, path: str, replaced: tuple[str, str], target: str, limit_bytes: int, stop: Stop
) -> BuildContext:
    """
    Pack a directory below an open one; ``replaced`` is a file in it and the text that it is to hold.

    Raises:
        Refused: there is no such directory, a file cannot be read, or it takes more than ``limit_bytes``.
        OSError: the disk is full.
    """
    left_out = 0
    with _context(root, path) as at, open(target, "xb") as file:
        bounded = _Bounded(file, limit_bytes)
        with open_pack(cast("IO[bytes]", bounded), "tar", stop) as pack:
            for found in walk(at, ordered=True):
                stop.check()
                left_out += _add(pack, found, replaced[0])
            _add_text(pack, *replaced)
    return BuildContext(target, f"sha256:{bounded.digest.hexdigest()}", bounded.written, left_out)


@contextlib.contextmanager
def _context(root: int, path: str) -> Iterator[int]:
    try:
        with _directory(root, parts_of(path)) as at:
            yield at
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Refused(f"build.path: {path} is no directory of the workspace") from error


@contextlib.contextmanager
def _directory(root: int, parts: tuple[str, ...]) -> Iterator[int]:
    at = open_directory(root, parts)
    try:
        yield at
    finally:
        os.close(at)


def _add(pack: Pack, found: Found, left: str) -> int:
    """Add one entry but for the file that another text stands for; return how many were left out for their kind."""
    name = "/".join((*found.above, found.name))
    if stat.S_ISDIR(found.state.st_mode):
        pack.add_directory(name)
        return 0
    if not stat.S_ISREG(found.state.st_mode):
        return 1
    if name == left:
        return 0
    try:
        add_regular(pack, found, name)
    except (OSError, NotRegular) as error:
        why = getattr(error, "strerror", None) or error
        raise Refused(f"build.path: {name} cannot be packed: {why}") from error
    return 0


def _add_text(pack: Pack, name: str, text: str) -> None:
    fd = os.memfd_create("dockerfile")
    try:
        os.write(fd, text.encode())
        pack.add_file(name, fd, os.fstat(fd))
    finally:
        os.close(fd)
