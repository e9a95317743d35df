"""An imitation of an engine on a unix socket: a fixed answer for each path, whatever version stands before it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from tests.adapters.containers.socket_proxy import listening

LENGTH = re.compile(rb"\r\nContent-Length: (\d+)", re.IGNORECASE)
REQUEST = re.compile(rb"[A-Z]+ (?:/v[0-9.]+)?(/[^ ?]*)")


@asynccontextmanager
async def imitation(path: Path, answers: Mapping[str, object]) -> AsyncIterator[None]:
    """Answer within the block; a path without an answer is 404."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await _head(reader):
            asked = REQUEST.match(head)
            found = answers.get(asked[1].decode()) if asked else None
            body = msgspec.json.encode({"message": "no such thing"} if found is None else found)
            status = "404 Not Found" if found is None else "200 OK"
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n".encode())
            writer.write(b"Content-Type: application/json\r\n\r\n" + body)

    async with listening(path, answer):
        yield


async def _head(reader: asyncio.StreamReader) -> bytes:
    """Return what a request begins with, its body read; empty at the end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        if length := LENGTH.search(head):
            await reader.readexactly(int(length[1]))
        return head
    except asyncio.IncompleteReadError:
        return b""
