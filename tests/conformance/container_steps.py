"""What tests of container runtimes do again and again, each wait bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from runner.ports import Chunk, Containers, ContainerSpec, Exit
from tests.conformance.container_harness import Harness

LIMIT_S = 30.0
OBEDIENT = "trap 'echo stopping; exit 3' TERM; echo ready; while :; do sleep 0.01; done"
STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.01; done"


async def output(containers: Containers, name: str, skip: Mapping[str, int] | None = None) -> dict[str, bytes]:
    """Return all that the job writes to each stream, until its end."""
    streams = {"stdout": b"", "stderr": b""}
    async with asyncio.timeout(LIMIT_S):
        async for chunk in containers.attach(name, skip or {}):
            streams[chunk.stream] += chunk.data
    return streams


async def end(containers: Containers, name: str) -> Exit:
    async with asyncio.timeout(LIMIT_S):
        return await containers.wait(name)


@asynccontextmanager
async def attached(containers: Containers, name: str) -> AsyncIterator[AsyncIterator[Chunk]]:
    stream = containers.attach(name, {})
    async with aclosing(stream), asyncio.timeout(LIMIT_S):  # type: ignore[type-var] # the port's iterators are generators
        yield stream


async def until_it_says(containers: Containers, name: str, word: bytes) -> None:
    """Wait until the job wrote a word to one of its streams."""
    heard = b""
    async with attached(containers, name) as chunks:
        async for chunk in chunks:
            heard += chunk.data
            if word in heard:
                return
    pytest.fail(f"ended without {word!r}, after {heard!r}")


async def ran(harness: Harness, containers: Containers, *command: str) -> tuple[dict[str, bytes], Exit]:
    """Run a job from start to removal."""
    return await ran_as(containers, harness.spec("job", *command))


async def ran_as(containers: Containers, spec: ContainerSpec) -> tuple[dict[str, bytes], Exit]:
    """Run what a spec says from start to removal."""
    await containers.start(spec)
    written = await output(containers, spec.name)
    ended = await end(containers, spec.name)
    await containers.remove(spec.name)
    return written, ended


def lives(pid: int) -> bool:
    """Tell whether a process of this box runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
