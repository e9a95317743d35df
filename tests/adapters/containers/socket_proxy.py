"""A relay in front of a unix socket that can cut all connections, or take calls and answer none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(path: Path, handler: Handler) -> AsyncIterator[None]:
    """Serve a unix socket within the block, and leave when the last connection is done."""
    handled: set[asyncio.Task[None] | None] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handled.add(asyncio.current_task())
        try:
            await handler(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_unix_server(handle, path)
    try:
        yield
    finally:
        server.close()
        await asyncio.gather(*(task for task in handled if task))


class SocketProxy:
    """Relays to one socket until told otherwise."""

    def __init__(self, url: str, directory: Path) -> None:
        self._target = url.removeprefix("unix://")
        self._path = directory / "proxy.sock"
        self._writers: set[asyncio.StreamWriter] = set()
        # Set while calls are answered.
        self._answering = asyncio.Event()
        self._answering.set()

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"unix://{self._path}"

    def cut(self) -> None:
        """Break every connection; new ones are relayed."""
        for writer in self._writers:
            writer.transport.abort()

    def fall_silent(self) -> None:
        """Take new connections and answer none."""
        self._answering.clear()

    def speak_again(self) -> None:
        """Answer again, also those who still wait."""
        self._answering.set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[SocketProxy]:
        """Relay within the block."""
        async with listening(self._path, self._relay):
            try:
                yield self
            finally:
                self._answering.set()
                self.cut()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._answering.wait()
        there, back = await asyncio.open_unix_connection(self._target)
        self._writers |= {writer, back}
        async with asyncio.TaskGroup() as group:
            group.create_task(self._copy(reader, back))
            group.create_task(self._copy(there, writer))
        self._writers -= {writer, back}
        back.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
