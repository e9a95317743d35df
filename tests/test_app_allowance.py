"""A runner that takes so many jobs and no more, or waits so long for one and no longer."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from runner.allowance import Allowance
from runner.app import Runner, drain
from runner.config import Config
from runner.errors import Unavailable
from runner.units import Duration
from tests.conformance.records import claim
from tests.fakes.faults import raises
from tests.fakes.scenes import alive, now, put, stop_fetching, until
from tests.fakes.world import FakeWorld, configuration
from tests.virtual_time import run_virtual

SHORT = ["run", "3", "0", "1"]


@asynccontextmanager
async def until_it_ends(world: FakeWorld, config: Config) -> AsyncIterator[Runner]:
    """One life of a runner that ends by itself, and drains then."""
    async with alive(world, config) as runner:
        over = asyncio.ensure_future(runner.allowance.until_over(runner.trail.in_flight))
        yield runner
        async with asyncio.timeout(3000):
            await over
        stop_fetching(runner)
        await drain(runner, asyncio.Event(), 0.0)


def claims(world: FakeWorld) -> int:
    return sum(queue.claims for queue in world.queues.values())


@pytest.mark.parametrize("limit", [1, 3, 7])
def test_never_more_is_claimed_than_the_limit_from_however_many_queues(limit: int) -> None:
    """Two queues have more than enough and are fetched from at once; each receipt stands, and the rest is untouched."""

    async def main() -> None:
        world = FakeWorld()
        for number in range(10):
            for queue in ("own", "shared"):
                await put(world, queue, id=f"{queue}-{number}", command=SHORT, resources={"cpus": 0.25})
        async with until_it_ends(world, configuration(limit_tasks=limit)):
            pass
        assert (claims(world), len(world.results.receipts), len(world.waiting())) == (limit, limit, 20 - limit)

    run_virtual(main())


def test_what_is_taken_has_the_time_that_it_needs() -> None:
    """The limit ends the fetching; it is no drain that stops what runs after its grace."""

    async def main() -> None:
        world = FakeWorld()
        await put(world, "own", id="long", command=["run", "500", "0", "1"])
        async with until_it_ends(world, configuration(limit_tasks=1, drain_grace=Duration(10))):
            pass
        assert [receipt.end_reason for receipt in world.results.receipts.values()] == ["succeeded"]
        assert now() > 500

    run_virtual(main())


def test_a_message_that_is_rejected_is_one_of_them() -> None:
    """It has its receipt as the others have theirs."""

    async def main() -> None:
        world = FakeWorld()
        await put(world, "own", id="bad", command=SHORT, resources={"cpus": 1000})
        await world.queues["own"].put(b"{", job_id="worse")
        for number in range(3):
            await put(world, "own", id=f"good-{number}", command=SHORT)
        async with until_it_ends(world, configuration(limit_tasks=3)):
            pass
        assert (claims(world), len(world.waiting())) == (3, 2)

    run_virtual(main())


def test_one_that_is_given_back_untried_is_none_of_them() -> None:
    """It waited here for longer than the box's patience; another is taken instead, and the limit is reached."""

    async def main() -> None:
        world = FakeWorld()
        await put(world, "own", id="wide", command=["run", "100", "0", "1"], resources={"cpus": 2})
        async with until_it_ends(world, configuration(limit_tasks=2, ahead=0)):
            await until(lambda: world.containers.containers)
            await put(world, "shared", id="waits", command=SHORT, resources={"cpus": 1})
        assert sorted(receipt.id for receipt in world.results.receipts.values()) == ["waits", "wide"]
        assert (len(world.results.receipts), claims(world) > 2) == (2, True)

    run_virtual(main())


def test_a_queue_that_is_empty_keeps_no_place_from_one_that_is_not() -> None:
    """Of one job in all: whoever found nothing lets the others look."""

    async def main() -> None:
        world = FakeWorld()
        async with until_it_ends(world, configuration(limit_tasks=1)):
            await asyncio.sleep(60)
            await put(world, "shared", id="first", command=SHORT)
            await until(lambda: world.containers.containers, limit_s=15)
        assert claims(world) == 1

    run_virtual(main())


def test_a_fetch_that_fails_takes_nothing_of_the_limit() -> None:
    async def main() -> None:
        world = FakeWorld()
        world.troubles["queue.fetch"] = raises(Unavailable("away"), times=5)
        for number in range(3):
            await put(world, "own", id=f"job-{number}", command=SHORT)
        async with until_it_ends(world, configuration(limit_tasks=2)):
            pass
        assert claims(world) == 2

    run_virtual(main())


@pytest.mark.parametrize("queues", ["empty", "away"])
def test_a_runner_without_work_ends_after_its_time(queues: str) -> None:
    """Counted from its start or from its last job, whether the queues are empty or out of reach."""

    async def main() -> None:
        world = FakeWorld()
        if queues == "away":
            world.troubles["queue.fetch"] = raises(Unavailable("away"))
        async with until_it_ends(world, configuration(limit_idle_duration=Duration(30))):
            pass
        assert 30 <= now() < 35

    run_virtual(main())


def test_a_runner_with_work_is_not_idle() -> None:
    """Neither while a job runs for long, nor between short ones that come often enough."""

    async def main() -> None:
        world = FakeWorld()
        await put(world, "own", id="long", command=["run", "200", "0", "1"])
        async with until_it_ends(world, configuration(limit_idle_duration=Duration(30))):
            await until(lambda: world.results.receipts, limit_s=300)
            for number in range(5):
                await asyncio.sleep(20)
                await put(world, "own", id=f"job-{number}", command=["run", "0.1", "0", "1"])
            last_at = now()
        assert len(world.results.receipts) == 6
        assert last_at + 30 <= now() < last_at + 45

    run_virtual(main())


def test_without_limits_it_never_ends_by_itself() -> None:
    async def main() -> None:
        async with alive(FakeWorld()) as runner:
            over = asyncio.ensure_future(runner.allowance.until_over(runner.trail.in_flight))
            await asyncio.sleep(500)
            assert over.cancel()

    run_virtual(main())


def test_a_runner_without_limits_keeps_no_account_of_all_that_it_ever_took() -> None:
    """It may take millions before it is exchanged."""

    async def main() -> int:
        allowance = Allowance(0, 0.0)
        tracemalloc.start()
        for number in range(2000):
            allowance.took(claim(f"job-{number}").claim)
        kept_bytes, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return kept_bytes

    assert asyncio.run(main()) < 50_000
