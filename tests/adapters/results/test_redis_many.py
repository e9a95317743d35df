"""Many jobs, many readers, large files: what one result backend in Redis has to carry, and how long that takes."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from adapters.results.redis import RedisResults
from runner.ports import LogLine, Position
from runner.receipt import Event
from tests.adapters.results.redis_backend import START, end_of, lifetimes, looking, opened, records, told
from tests.conformance.redis_harness import redis_url
from tests.conformance.results_harness import AT, KEY, LONG_S, key_of, receipt

pytestmark = pytest.mark.broker

JOBS = 10_000
AT_ONCE = 100
FOLLOWERS = 100
LIST_S = 20.0
"""A third of it on an idle core; machines that run tests are shared."""


@pytest.fixture
def url() -> str:
    return redis_url()


async def whole_life(results: RedisResults, number: int) -> None:
    job_id, key = f"job-{number}", key_of(f"job-{number}")
    states = ("waiting", "staging", "running", "storing")
    events = [Event(key, job_id, number + place / 10, state) for place, state in enumerate(states)]
    await results.append(key, job_id, events, ())
    if number % 10:
        await results.put_receipt(receipt(job_id, key=key))
        await results.append(key, job_id, (end_of(key, job_id, at=number + 0.9),), ())


@pytest.mark.slow
def test_ten_thousand_jobs_are_listed(url: str) -> None:
    """Newest first; those that have not ended without reading the others."""

    async def main() -> None:
        async with opened(url) as results:
            for first in range(0, JOBS, AT_ONCE):
                await asyncio.gather(*(whole_life(results, number) for number in range(first, first + AT_ONCE)))
            began = time.monotonic()
            everything = await results.list(ended=True)
            took_s = time.monotonic() - began
            assert [f"job-{number}" for number in reversed(range(JOBS))] == [row.id for row in everything]
            assert JOBS // 10 == sum(row.state == "storing" for row in everything)
            began = time.monotonic()
            assert JOBS // 10 == len(await results.list(ended=False))
            print(f"listed all in {took_s:.2f} s, the active in {time.monotonic() - began:.2f} s")
            assert took_s < LIST_S
            began = time.monotonic()
            assert JOBS - JOBS // 10 == await results.prune(AT + 1)
            print(f"pruned in {time.monotonic() - began:.2f} s")
            assert JOBS // 10 == len(await results.list(ended=True))

    asyncio.run(main())


def test_a_hundred_follow_one_job(url: str) -> None:
    """Each gets all of it, and nobody else waits for them."""
    lines = records(500, 100)

    async def main() -> None:
        async with opened(url) as box, opened(url, "") as reader:
            following = [asyncio.create_task(follow(reader)) for _ in range(FOLLOWERS)]
            await box.append(KEY, "a", (), lines[:100])
            for start in range(100, 500, 50):
                await box.append(KEY, "a", (), lines[start : start + 50])
                await box.stops()
            await box.append(KEY, "a", (end_of(KEY, "a"),), ())
            async with asyncio.timeout(2 * LONG_S):
                for items in await asyncio.gather(*following):
                    assert [*lines, end_of(KEY, "a")] == items

    asyncio.run(main())


async def follow(results: RedisResults) -> list[LogLine | Event]:
    return [item async for item in results.tail("a", Position(), follow=True)]


def test_a_large_upload_comes_back_whole(url: str, tmp_path: Path) -> None:
    """And twice is once: what stands already is not sent again."""
    source, content = tmp_path / "source", os.urandom(40_000_001)
    source.write_bytes(content)

    async def main() -> None:
        async with opened(url, "") as client, opened(url) as box:
            uploads = await asyncio.gather(*(client.put_upload(str(source)) for _ in range(3)))
            assert 1 == len(set(uploads))
            assert 2 == len(lifetimes(url)), "the upload, and the list of them"
            await box.get_upload(uploads[0], str(tmp_path / "copy"))
            assert content == (tmp_path / "copy").read_bytes()

    asyncio.run(main())


def test_attempts_whose_logs_arrive_mixed_are_told_in_order(url: str) -> None:
    """A box that was cut off sends the rest of its log while the next attempt runs elsewhere."""
    first, second = records(300, 2000), records(300, 2000, attempt=2)

    async def main() -> None:
        async with opened(url, "box-1") as one, opened(url, "box-2") as other:
            for start in range(0, 300, 20):
                await one.append(KEY, "a", (), first[start : start + 20])
                await other.append(KEY, "a", (), second[start : start + 20])
            await other.append(KEY, "a", (end_of(KEY, "a"),), ())
            assert [*first, *second, end_of(KEY, "a")] == await told(one, "a")
            assert [*second[7:], end_of(KEY, "a")] == await told(one, "a", Position(2, 7))

    asyncio.run(main())


def test_boxes_that_append_at_once_lose_nothing(url: str) -> None:
    """Many jobs at a time through one connection pool, each in order."""

    async def write(results: RedisResults, number: int) -> None:
        key, job_id = key_of(f"job-{number}"), f"job-{number}"
        for start in range(0, 100, 10):
            await results.append(key, job_id, (), records(100)[start : start + 10])
        await results.append(key, job_id, (end_of(key, job_id),), ())

    async def main() -> None:
        async with opened(url) as results:
            await asyncio.gather(*(write(results, number) for number in range(50)))
            for number in range(50):
                end = end_of(key_of(f"job-{number}"), f"job-{number}")
                assert [*records(100), end] == await told(results, f"job-{number}")
            with looking(url) as database:
                assert 50 == database.zcard(f"{START}ended")

    asyncio.run(main())
