"""The proxy that faults are made with does what it is told, or what is tested with it shows nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.fault_proxy import FaultProxy, proxied, proxied_aside


@asynccontextmanager
async def echoing() -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that says everything back, and what it heard."""
    heard: list[bytes] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            heard.append(data)
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], heard
    finally:
        server.close()


async def said(proxy: FaultProxy, text: bytes, limit_s: float = 0.3) -> bytes | None:
    """Say something on a new connection; return the answer, None where none came in time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        writer.write(text)
        async with asyncio.timeout(limit_s):
            return await reader.read(100)
    except TimeoutError:
        return None
    finally:
        writer.close()


def test_faults_come_and_go() -> None:
    async def main() -> None:
        async with echoing() as (port, heard), proxied("127.0.0.1", port) as proxy:
            assert await said(proxy, b"one", 5) == b"one"
            proxy.fault = "lose replies"
            assert await said(proxy, b"two") is None
            assert heard == [b"one", b"two"]
            proxy.fault = "swallow"
            assert await said(proxy, b"three") is None
            assert heard == [b"one", b"two"]
            proxy.fault = "refuse"
            with pytest.raises(ConnectionError):
                await said(proxy, b"four", 5)
            proxy.fault = ""
            assert await said(proxy, b"five", 5) == b"five"

    asyncio.run(main())


def test_a_cut_is_an_error_at_once() -> None:
    async def main() -> None:
        async with echoing() as (port, _), proxied("127.0.0.1", port) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(b"x")
            assert await reader.read(1) == b"x"
            proxy.cut()
            with pytest.raises(ConnectionError):
                await reader.read(1)
            writer.close()

    asyncio.run(main())


def test_it_runs_in_a_thread_too() -> None:
    async def main() -> None:
        async with echoing() as (port, _):
            with proxied_aside("127.0.0.1", port) as proxy:
                assert await said(proxy, b"one", 5) == b"one"

    asyncio.run(main())
