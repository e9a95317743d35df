"""
The seeds' way: the log of each job is followed, and each line is published by itself, in one process for all jobs.

A container's log is the engine's own, followed over its API; that of a process is the file it writes to.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import msgspec
import uvloop

from bench.log_check import Heard, Order
from bench.log_children import BenchError, await_, line_of, listening, module
from bench.log_engine import Runtime
from bench.log_sources import source
from bench.log_writer import Work

LOOK_AGAIN_S = 0.001
READ_BYTES = 1 << 16
STARTED_S = 20.0


class Sources(msgspec.Struct, frozen=True):
    """What is followed, by job: containers of an engine, or files; ``counts`` are lines of each."""

    port: int
    engine: str
    names: dict[str, str]
    counts: dict[str, int]


def follow_all(runtime: Runtime, port: int, directory: Path, works: Mapping[str, Work], limit_s: float) -> Heard:
    """
    Run jobs, follow and publish, and return what the subscriber heard; ``cpu_s`` is of who followed.

    Raises:
        BenchError: it did not hear all, or not in time.
    """
    order = Order(port=port, jobs={job: work.count for job, work in works.items()}, form="line")
    with ExitStack() as stack:
        listener = stack.enter_context(listening(order))
        sources = {job: stack.enter_context(source(runtime, directory, work)) for job, work in works.items()}
        names = {job: it.name for job, it in sources.items()}
        told = msgspec.json.encode(Sources(port, runtime.engine, names, order.jobs)).decode()
        process = stack.enter_context(module("log_seeds", told))
        line_of(process, STARTED_S, "the seeds' way")
        for it in sources.values():
            it.start()
        assert process.stdin is not None
        process.stdin.close()
        await_(listener.has_ended, limit_s, "the seeds' way published all")
        used_s = float(line_of(process, STARTED_S, "the seeds' way"))
        heard = listener.heard()
    if not heard.is_whole:
        raise BenchError(f"the seeds' way lost lines: {heard}")
    return msgspec.structs.replace(heard, cpu_s=used_s)


async def _lines_of_container(url: str, name: str) -> AsyncIterator[bytes]:
    import aiodocker

    docker = aiodocker.Docker(url)
    try:
        found = await docker.containers.get(name)
        rest = ""
        async for text in found.log(stdout=True, follow=True):
            *whole, rest = (rest + text).split("\n")
            for line in whole:
                yield line.encode()
    finally:
        await docker.close()


async def _lines_of_file(name: str) -> AsyncIterator[bytes]:
    with Path(name).open("rb") as file:  # noqa: ASYNC230 - what is there already is read at once
        rest = b""
        while True:
            data = file.read(READ_BYTES)
            if not data:
                await asyncio.sleep(LOOK_AGAIN_S)
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                yield line


async def _publish_all(sources: Sources) -> None:
    from redis.asyncio import Redis

    redis = Redis(port=sources.port)

    async def one(job: str) -> None:
        left, name = sources.counts[job], sources.names[job]
        lines = _lines_of_container(sources.engine, name) if sources.engine else _lines_of_file(name)
        async for line in lines:
            await redis.publish(f"log:{job}", line)
            left -= 1
            if not left:
                break
        await lines.aclose()  # type: ignore[attr-defined]  # both are generators

    try:
        await asyncio.gather(*map(one, sources.names))
    finally:
        await redis.aclose()


def main() -> None:
    print("ready", flush=True)
    sys.stdin.read()
    uvloop.run(_publish_all(msgspec.json.decode(sys.argv[1], type=Sources)))
    print(time.process_time(), flush=True)
