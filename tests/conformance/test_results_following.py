"""What every result backend tells whoever follows a job, and which job is meant by an id."""

from __future__ import annotations

import asyncio

import pytest

from runner.ports import Position
from tests.conformance.results_harness import (
    KEY,
    LONG_S,
    ResultsHarness,
    Told,
    end,
    event,
    followed,
    key_of,
    line,
    receipt,
    sequences,
    told,
)


def test_a_follower_gets_what_another_process_adds_until_the_end(results_harness: ResultsHarness) -> None:
    async def main() -> None:
        async with results_harness.open() as results, results_harness.open("") as client:
            await results.append(KEY, "a", (), [line(0)])
            items: list[Told] = []
            arrived = asyncio.Event()

            async def follow() -> None:
                async for item in client.tail("a", Position(), follow=True):
                    items.append(item)
                    arrived.set()

            following = asyncio.create_task(follow())
            for number in range(1, 20):
                async with asyncio.timeout(LONG_S):
                    await arrived.wait()
                arrived.clear()
                await results.append(KEY, "a", (), [line(number)])
            await results.append(KEY, "a", (end(50),), [line(20)])
            await asyncio.wait_for(following, LONG_S)
            assert [(1, number) for number in range(21)] == sequences(items)
            assert end(50) == items[-1]

    asyncio.run(main())


def test_a_follower_waits_for_a_job_that_is_not_there_yet(results_harness: ResultsHarness) -> None:
    """``submit --follow`` begins before any box took the job."""

    async def main() -> None:
        async with results_harness.open("") as client, results_harness.open() as results:
            following = [asyncio.create_task(followed(client, name)) for name in ("a", KEY)]
            await client.stops()
            await results.append(KEY, "a", (event("running", 0),), [line(0)])
            await results.append(KEY, "a", (end(5),), ())
            expected: list[Told] = [event("running", 0), line(0), end(5)]
            assert [expected, expected] == await asyncio.gather(*following)

    asyncio.run(main())


def test_an_attempt_that_is_tried_again_does_not_end_a_follower(results_harness: ResultsHarness) -> None:
    async def main() -> None:
        async with results_harness.open() as results:
            await results.append(KEY, "a", (event("ended", 5), event("waiting", 6)), [line(0)])
            following = asyncio.create_task(followed(results))
            await results.append(KEY, "a", (end(9, attempt=2),), [line(0, attempt=2)])
            assert [(1, 0), (2, 0)] == sequences(await following)

    asyncio.run(main())


def test_a_follower_that_goes_away_leaves_nothing_behind(results_harness: ResultsHarness) -> None:
    async def main() -> None:
        async with results_harness.open() as results:
            for _ in range(3):
                following = asyncio.create_task(followed(results))
                await results.stops()
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
                assert following.cancelled()

    asyncio.run(main())


def test_the_newest_job_of_an_id_is_meant(results_harness: ResultsHarness) -> None:
    """An id may be submitted again after its job ended; late news of the old one changes nothing."""
    old, new = key_of("a", "old"), key_of("a", "new")

    async def main() -> None:
        async with results_harness.open() as results:
            await results.append(old, "a", (end(1, key=old),), [line(0)])
            await results.put_receipt(receipt(key=old))
            await results.append(new, "a", (event("running", 2, key=new),), [line(7)])
            await results.append(old, "a", (event("storing", 1, key=old),), [line(1)])
            assert [(1, 7)] == sequences(await told(results))
            assert await results.get("a") is None
            assert [(1, 0), (1, 1)] == sequences(await told(results, old))
            assert await results.get(old) == receipt(key=old)

    asyncio.run(main())


@pytest.mark.parametrize("job_id", ["../../etc/passwd", "", ".", "a/b", "x" * 500, "ü\n", "ids"])
def test_an_id_that_is_a_path_stays_a_name(results_harness: ResultsHarness, job_id: str) -> None:
    key = key_of(job_id)

    async def main() -> None:
        async with results_harness.open() as results:
            assert [] == await told(results, job_id)
            await results.append(key, job_id, (end(1, key=key, job_id=job_id),), ())
            await results.put_receipt(receipt(job_id, key=key))
            assert [end(1, key=key, job_id=job_id)] == await told(results, job_id)
            assert await results.get(job_id) == receipt(job_id, key=key)

    asyncio.run(main())
