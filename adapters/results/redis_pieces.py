"""
Files in Redis: hashes of pieces, written under a name of their own and renamed when they are whole.

A file is read and written in a thread of its own, piece by piece, so that neither it nor the server holds up the loop.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Self

from adapters.files import OWNER_FILE, explained, remove_file, write_all
from adapters.redis_client import RedisClient
from adapters.results.redis_queue_scripts import PIECE, PIECE_BYTES, TAKE
from adapters.worker import Worker
from runner.errors import Refused, RunnerError
from runner.units import format_size

COUNT_DIGITS = 4


@dataclass(frozen=True)
class Stored:
    """What a file became: the name it has for now, how many pieces, the SHA-256 of its bytes in hexadecimal."""

    name: str
    pieces: int
    digest: str


class Source:
    """A local file, read from its beginning in a thread of its own."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        self._digest = hashlib.sha256()
        self._worker = Worker(f"read {path}")
        # Of what was read so far.
        self.size_bytes = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._worker.submit(self._close)
        self._worker.shutdown()

    async def read(self) -> bytes:
        """Return the next piece, empty at the end."""
        return await self._worker.run(self._read)

    async def digest(self) -> str:
        """Return the SHA-256 of all that was read, in hexadecimal."""
        return await self._worker.run(self._digest.hexdigest)

    def _read(self) -> bytes:
        with explained("read file", self._path):
            if self._fd < 0:
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            piece = os.read(self._fd, PIECE_BYTES)
        self._digest.update(piece)
        self.size_bytes += len(piece)
        return piece

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


class Target:
    """A local file in the making, beside the one that it will be; what is not put in place is deleted."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._partial = os.path.join(os.path.dirname(path), f".partial.{secrets.token_hex(8)}")
        self._fd = -1
        self._digest = hashlib.sha256()
        self._worker = Worker(f"write {path}")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._worker.submit(self._close)
        self._worker.shutdown()

    async def write(self, piece: bytes) -> None:
        """Add a piece."""
        await self._worker.run(self._write, piece)

    async def digest(self) -> str:
        """Return the SHA-256 of what was written, in hexadecimal."""
        return await self._worker.run(self._digest.hexdigest)

    async def put_in_place(self) -> None:
        """Let the file be there, whole."""
        await self._worker.run(self._rename)

    def _write(self, piece: bytes) -> None:
        with explained("write file", self._path):
            self._open()
            write_all(self._fd, piece)
        self._digest.update(piece)

    def _open(self) -> None:
        if self._fd < 0:
            self._fd = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, OWNER_FILE)

    def _rename(self) -> None:
        with explained("write file", self._path):
            self._open()
            os.rename(self._partial, self._path)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            with suppress(OSError):
                remove_file(self._partial)


class Pieces:
    """The files of one result backend."""

    def __init__(self, client: RedisClient, start: str) -> None:
        self._client, self._start = client, start

    @asynccontextmanager
    async def storing(self, doing: str, source: Source, limit_bytes: int) -> AsyncIterator[Stored]:
        """
        Give what a file became, for the body to rename; deleted where the body fails.

        Raises:
            Refused: the file is larger than ``limit_bytes``.
        """
        name = f"partial:{secrets.token_hex(16)}"
        try:
            yield await self._store(doing, source, name, limit_bytes)
        except BaseException:
            with suppress(RunnerError):  # it expires anyway
                await self._client.call(doing, "UNLINK", self._start + name)
            raise

    async def _store(self, doing: str, source: Source, name: str, limit_bytes: int) -> Stored:
        pieces = 0
        while piece := await source.read():
            if source.size_bytes > limit_bytes:
                raise Refused(f"{doing}: it has more than {format_size(limit_bytes)}, the most that is kept in Redis")
            await self._client.run(doing, PIECE, [self._start], [name, pieces, piece])
            pieces += 1
        return Stored(name, pieces, await source.digest())

    async def load(self, doing: str, name: str, target: Target) -> bool | None:
        """Write a file into ``target``; False where it is not what was stored, None where there is none."""
        count, digest = await self._client.call(doing, "HMGET", self._start + name, "pieces", "digest")
        if count is None:
            return None
        if len(count) > COUNT_DIGITS or not count.isdigit():
            return False
        for number in range(int(count)):
            piece = await self._client.run(doing, TAKE, [self._start], [name, number])
            if piece is None:
                return False
            await target.write(piece)
        return bool((await target.digest()).encode() == digest)
