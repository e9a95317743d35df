"""A TCP proxy on loopback that can be told to misbehave, while it runs, as networks and brokers do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Literal

Fault = Literal["", "refuse", "swallow", "lose replies"]

CHUNK_BYTES = 65536
LOOK_AGAIN_S = 0.01


class FaultProxy:
    """
    Passes everything on, until ``fault`` says otherwise; it may be set at any moment, from any thread.

    ``refuse`` resets new connections; ``swallow`` accepts them, and passes nothing in either direction, as a network
    does that lost its way; ``lose replies`` delivers requests and keeps back the answers. What was kept back is
    delivered once the fault is over, unless ``cut`` reset the connection.
    """

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self.fault: Fault = ""
        self.port = 0
        self.accepted = 0
        self.requested = asyncio.Event()
        """Set whenever a request was passed on; for the loop that it runs in."""
        self._writers = set[asyncio.StreamWriter]()
        self._loop = asyncio.get_running_loop()

    def cut(self) -> None:
        """Reset every connection that is open; for any thread."""
        self._loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        for writer in tuple(self._writers):
            _reset(writer)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on."""
        self.accepted += 1
        if self.fault == "refuse":
            _reset(writer)
            return
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._upstream)
        except OSError:
            _reset(writer)
            return
        pair = {writer, up_writer}
        self._writers |= pair
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, up_writer, {"swallow"}, self.requested))
                group.create_task(self._pump(up_reader, writer, {"swallow", "lose replies"}))
        except* (OSError, asyncio.CancelledError):
            for one in pair:
                _reset(one)
        finally:
            self._writers -= pair
            for one in pair:
                one.close()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        held_by: set[str],
        passed: asyncio.Event | None = None,
    ) -> None:
        while data := await reader.read(CHUNK_BYTES):
            while self.fault in held_by:
                await asyncio.sleep(LOOK_AGAIN_S)
            writer.write(data)
            await writer.drain()
            if passed is not None:
                passed.set()
        with contextlib.suppress(OSError):
            writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with a reset, so that both ends see an error and no orderly end."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def proxied(host: str, port: int) -> AsyncIterator[FaultProxy]:
    """Run a proxy in this loop."""
    proxy, served = FaultProxy(host, port), set[asyncio.Task[None]]()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(proxy.serve(reader, writer))
        served.add(task)
        task.add_done_callback(served.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in tuple(served):
            task.cancel()
        await asyncio.gather(*served, return_exceptions=True)
        await server.wait_closed()


@contextmanager
def proxied_aside(host: str, port: int) -> Iterator[FaultProxy]:
    """Run a proxy in a thread of its own, for tests without a loop."""
    began, stop = threading.Event(), asyncio.Event()
    found: list[tuple[FaultProxy, asyncio.AbstractEventLoop]] = []

    async def run() -> None:
        async with proxied(host, port) as proxy:
            found.append((proxy, asyncio.get_running_loop()))
            began.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),), name="fault proxy")
    thread.start()
    began.wait()
    proxy, loop = found[0]
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
