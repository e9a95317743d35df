"""An HTTP server that answers every call as it is told: for answers that no SQS on loopback gives."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class StandIn:
    """
    ``status``, ``code`` and ``message`` are the next answers; ``calls`` the actions that were asked for, over so many
    ``connections``.
    """

    def __init__(self) -> None:
        self.status, self.code, self.message = 200, "", ""
        self.answers: dict[str, object] = {}
        self.calls: list[str] = []
        self.connections = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests."""
        self.connections += 1
        while head := await _head(reader):
            fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            await reader.readexactly(int(fields.get("content-length", 0)))
            self.calls.append(fields.get("x-amz-target", head.split()[1]).rpartition(".")[2])
            error = {"__type": f"com.amazonaws.sqs#{self.code}", "message": self.message}
            body = json.dumps(self.answers if self.status == 200 else error).encode()
            told = f"HTTP/1.1 {self.status} Told\r\nContent-Type: application/x-amz-json-1.0\r\n"
            writer.write(f"{told}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
        writer.close()


async def _head(reader: asyncio.StreamReader) -> str:
    try:
        return (await reader.readuntil(b"\r\n\r\n")).decode()
    except (asyncio.IncompleteReadError, ConnectionError):
        return ""


@asynccontextmanager
async def stand_in() -> AsyncIterator[StandIn]:
    """Run one on loopback."""
    told = StandIn()
    served = set[asyncio.Task[None]]()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(told.serve(reader, writer))
        served.add(task)
        task.add_done_callback(served.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    told.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield told
    finally:
        server.close()
        for task in tuple(served):
            task.cancel()
        await asyncio.gather(*served, return_exceptions=True)
        await server.wait_closed()
