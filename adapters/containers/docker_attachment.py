"""
The raw streams of a container that has not started yet, read from the engine's connection in large pieces.

The engine puts a header of eight bytes before every write of the job; a flood arrives here as fast as the connection
gives it. The connection is read only while there is room: a job whose output nobody takes stands still.
"""

from __future__ import annotations

import asyncio
import struct
from contextlib import AsyncExitStack

from adapters.containers.docker_engine import Engine, Sent
from adapters.containers.docker_log import STREAMS
from runner.errors import Unavailable
from runner.ports import Chunk

WAITING_MAX_BYTES = 1 << 20
FEW_BYTES = 16 << 10
PAUSE_S = 0.01
"""Between two looks where little comes, so that a job that prints every moment does not wake us for each line."""
_HEADER = struct.Struct(">BxxxL")
_UPGRADE = {"Connection": "Upgrade", "Upgrade": "tcp"}


class Frames:
    """Takes the connection's bytes apart, however they were cut. Pure."""

    def __init__(self) -> None:
        self._head = b""
        # Of the frame that has begun: its stream, and how many bytes of it are still to come.
        self._stream, self._left = "", 0

    def feed(self, data: bytes) -> list[Chunk]:
        """Return what this holds, neighbours of one stream put together."""
        runs: list[tuple[str, list[bytes]]] = []
        at = 0
        while at < len(data):
            if not self._left:
                at = self._begin_frame(data, at)
                continue
            part = data[at : at + self._left]
            if not runs or runs[-1][0] != self._stream:
                runs.append((self._stream, []))
            runs[-1][1].append(part)
            at += len(part)
            self._left -= len(part)
        return [Chunk(stream, b"".join(parts)) for stream, parts in runs]

    def _begin_frame(self, data: bytes, at: int) -> int:
        end = at + _HEADER.size - len(self._head)
        self._head += data[at:end]
        if len(self._head) == _HEADER.size:
            number, self._left = _HEADER.unpack(self._head)
            self._stream = STREAMS[0] if number == 1 else STREAMS[1]
            self._head = b""
        return end


class Attachment(asyncio.Protocol):
    """One connection; somebody must read it, or the job stands still."""

    def __init__(self, opened: AsyncExitStack, transport: asyncio.Transport, before: asyncio.BaseProtocol) -> None:
        self._opened, self._transport, self._before = opened, transport, before
        self._frames = Frames()
        self._waiting = bytearray()
        self._is_lost = False
        self._news = asyncio.Event()

    async def read(self) -> list[Chunk] | None:
        """Return what has come, at least something; None: both streams ended, or the connection broke."""
        while True:
            await self._news.wait()
            data = bytes(self._waiting)
            self._waiting.clear()
            if not self._is_lost:
                self._news.clear()
                self._go_on(len(data))
            if chunks := self._frames.feed(data):
                return chunks
            if self._is_lost:
                return None

    def _go_on(self, size: int) -> None:
        if size >= FEW_BYTES:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(PAUSE_S, self._transport.resume_reading)

    async def close(self) -> None:
        """Let go; the job runs on."""
        self._transport.abort()
        await self._opened.aclose()

    def data_received(self, data: bytes) -> None:
        """Keep what came until it is read."""
        self._waiting += data
        self._news.set()
        if len(self._waiting) >= WAITING_MAX_BYTES:
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the reader, and who had the connection before."""
        self._is_lost = True
        self._news.set()
        self._before.connection_lost(exc)


class _Handover:
    """Takes over what came together with the answer, and stands for whoever the SDK would have gone on with."""

    def __init__(self, attachment: Attachment) -> None:
        self._attachment = attachment

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._attachment.data_received(data)
        return False, b""

    def feed_eof(self) -> None:
        """Nothing more comes this way."""


async def open_attachment(engine: Engine, container_id: str) -> Attachment:
    """
    Attach to a container that was created; the caller closes.

    Raises:
        EngineRefusal: the engine answered with an error.
        Unavailable: it did not answer, or does not hand over the connection.
    """
    what = f"attach to container {container_id}"
    async with AsyncExitStack() as opened, engine.call(what) as docker:
        query = {"stdout": 1, "stderr": 1, "stream": 1}
        path = f"containers/{container_id}/attach"
        answer = await opened.enter_async_context(engine.send(docker, "POST", path, Sent(_UPGRADE), **query))
        before = answer.connection.protocol if answer.connection is not None else None
        transport = before.transport if before is not None else None
        if before is None or transport is None:
            raise Unavailable(f"Docker at {engine.url} did not {what}: it closed the connection")
        attachment = Attachment(opened.pop_all(), transport, before)
        transport.set_protocol(attachment)
        before.set_parser(_Handover(attachment), None)
        return attachment
