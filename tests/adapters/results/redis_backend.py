"""A result backend in a real Redis for tests that look at what is behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from adapters.results.redis import Bounds, RedisResults
from runner.job import Key
from runner.ports import LogLine, Position
from runner.receipt import Event
from tests.conformance.redis_harness import connected
from tests.conformance.results_harness import Told

START = "{runner:train}:results:"


@asynccontextmanager
async def opened(url: str, box: str = "box-1", *, bounds: Bounds | None = None) -> AsyncIterator[RedisResults]:
    results = RedisResults(url, "train", box_id=box, bounds=bounds)
    try:
        yield results
    finally:
        await results.close()


def looking(url: str) -> Any:
    """Connect beside the adapter; the types of the SDK's answers are of no use."""
    return connected(url)


def lifetimes(url: str) -> dict[str, int]:
    """Return every key of the database, and in how many seconds it expires (-1: never)."""
    with looking(url) as database:
        return {key.decode("ascii"): database.ttl(key) for key in database.scan_iter()}


def records(count: int, size: int = 1000, *, attempt: int = 1) -> list[LogLine]:
    return [LogLine(attempt, number, number, "stdout", b"%06d" % number + b"x" * size) for number in range(count)]


def end_of(key: Key, job_id: str, *, at: float = 10.0) -> Event:
    return Event(key, job_id, at, "ended", end_reason="succeeded")


async def told(results: RedisResults, job_id: str, position: Position | None = None) -> list[Told]:
    return [item async for item in results.tail(job_id, position or Position(), follow=False)]
