"""A Redis that dies, hangs, is cut off, or cannot write: what was claimed stays claimed, and errors say what to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import pytest

from adapters.queues.redis import RedisQueue
from runner.errors import LeaseLost, Unavailable
from runner.job import Note, Verdict
from tests.adapters.queues.redis_queues import (
    OTHER_BOX,
    acknowledge,
    credential,
    database,
    fetched,
    redis_queue,
    until_blocked,
)
from tests.conformance.redis_harness import pass_time, redis_url
from tests.fault_proxy import FaultProxy, proxied

pytestmark = pytest.mark.broker

MESSAGES = 60


@pytest.fixture(name="url")
def _url() -> str:
    return redis_url()


@asynccontextmanager
async def through_proxy(url: str) -> AsyncIterator[tuple[RedisQueue, FaultProxy]]:
    """Open a queue through a proxy."""
    parts = urlsplit(url)
    assert parts.port is not None
    async with (
        proxied("127.0.0.1", parts.port) as proxy,
        redis_queue(f"redis://127.0.0.1:{proxy.port}{parts.path}") as queue,
    ):
        yield queue, proxy


# The connection


def test_a_cut_connection_is_told_and_the_next_call_has_a_new_one(url: str) -> None:
    async def main() -> None:
        async with through_proxy(url) as (queue, proxy), database(url) as redis:
            await queue.put(b"x", job_id="a")
            delivery = await fetched(queue)
            waiting = asyncio.create_task(queue.fetch(20))
            await until_blocked(redis)
            proxy.cut()
            with pytest.raises(Unavailable, match=rf"127\.0\.0\.1:{proxy.port}"):
                await waiting
            with suppress(Unavailable):
                await queue.depth()  # the idle connection may be found dead only now
            await queue.renew(delivery.token)
            await acknowledge(queue, delivery)
            assert 0 == await queue.depth()

    asyncio.run(main())


def test_a_refused_connection_says_where_and_what_to_do(url: str) -> None:
    async def main() -> None:
        async with through_proxy(url) as (queue, proxy):
            proxy.fault = "refuse"
            proxy.cut()
            for call in (queue.depth, queue.dead, lambda: queue.fetch(5)):
                with pytest.raises(Unavailable, match=rf"127\.0\.0\.1:{proxy.port}.*check that it runs"):
                    await call()
            proxy.fault = ""
            assert 0 == await queue.depth()

    asyncio.run(main())


def test_a_delivery_whose_answer_was_lost_is_delivered_by_the_next_fetch(url: str) -> None:
    """Nobody waits for a lease that nobody knows to hold."""

    async def main() -> None:
        async with through_proxy(url) as (queue, proxy), redis_queue(url, box=OTHER_BOX) as other:
            submission = await other.put(b"x", job_id="a")
            proxy.fault = "lose replies"
            proxy.requested.clear()
            fetching = asyncio.create_task(queue.fetch(0))
            await proxy.requested.wait()
            while await other.depth():
                await asyncio.sleep(0)
            proxy.cut()
            with pytest.raises(Unavailable):
                await fetching
            proxy.fault = ""
            assert await other.fetch(0) is None, "it is claimed"
            delivery = await fetched(queue)
            assert submission == delivery.submission
            await acknowledge(queue, delivery)

    asyncio.run(main())


def test_a_delivery_that_nobody_heard_of_is_given_back_at_the_end(url: str) -> None:
    async def main() -> None:
        async with redis_queue(url, box=OTHER_BOX) as other:
            async with through_proxy(url) as (queue, proxy):
                submission = await other.put(b"x", job_id="a")
                proxy.fault = "lose replies"
                fetching = asyncio.create_task(queue.fetch(0))
                while await other.depth():
                    await asyncio.sleep(0)
                fetching.cancel()
                await asyncio.gather(fetching, return_exceptions=True)
                proxy.fault = ""
            assert submission == (await fetched(other)).submission

    asyncio.run(main())


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_settlement_whose_answer_was_lost_is_told_again(url: str, verdict: Verdict) -> None:
    async def main() -> None:
        async with through_proxy(url) as (queue, proxy), redis_queue(url, box=OTHER_BOX) as other:
            await other.put(b"x", job_id="a")
            delivery = await fetched(queue)
            settle = (delivery.token, verdict)
            proxy.fault = "lose replies"
            proxy.requested.clear()
            settling = asyncio.create_task(queue.settle(*settle, after_s=0, note=Note(starts=1), reason="why"))
            await proxy.requested.wait()
            await other.depth()
            proxy.cut()
            with pytest.raises(Unavailable):
                await settling
            proxy.fault = ""
            await queue.settle(*settle, after_s=0, note=Note(starts=1), reason="why")
            expected = {Verdict.ACK: (0, 0), Verdict.REJECT: (0, 1)}.get(verdict, (1, 0))
            assert expected == (await other.depth(), len(await other.dead()))

    asyncio.run(main())


@pytest.mark.slow
def test_a_half_open_connection_is_noticed(url: str) -> None:
    """A firewall forgets connections without a word; a box must not wait for ever on one."""

    async def main() -> None:
        async with through_proxy(url) as (queue, proxy), database(url) as redis:
            await queue.put(b"x", job_id="a")
            delivery = await fetched(queue)
            waiting = asyncio.create_task(queue.fetch(20))
            await until_blocked(redis)
            proxy.fault = "swallow"
            async with asyncio.timeout(15):
                with pytest.raises(Unavailable, match="no answer in time"):
                    await waiting
            proxy.fault = ""
            await acknowledge(queue, delivery)

    asyncio.run(main())


# Leases


def test_a_lapsed_claim_of_ones_own_is_taken_up_in_the_end(url: str) -> None:
    """A lease later, when no renewal came."""

    async def main() -> None:
        async with redis_queue(url) as queue:
            await queue.put(b"x", job_id="a")
            first = await fetched(queue)
            pass_time(url, 61)
            assert await queue.fetch(0) is None
            pass_time(url, 60)
            second = await fetched(queue)
            assert (first.submission, True) == (second.submission, first.token != second.token)

    asyncio.run(main())


def test_leases_of_different_lengths_hold_each_for_itself(url: str) -> None:
    """A box with short leases does not take what another one claimed for longer."""

    async def main() -> None:
        async with (
            redis_queue(credential(url, lease_s=600)) as patient,
            redis_queue(credential(url, lease_s=10), box=OTHER_BOX) as hasty,
        ):
            await patient.put(b"x", job_id="a")
            delivery = await fetched(patient)
            pass_time(url, 500)
            assert await hasty.fetch(0) is None
            await acknowledge(patient, delivery)

    asyncio.run(main())


# Many at once


async def box(url: str, name: str, ended: list[str], *, hurries: bool) -> None:
    """Give each message back once, then acknowledge it; one that hurries lets claims of the others lapse."""
    async with redis_queue(url, box=name) as queue:
        while len(ended) < MESSAGES:
            delivery = await queue.fetch(0.05)
            if delivery is None:
                continue
            if hurries:
                pass_time(url, 31)
            verdict = Verdict.RETRY if delivery.note == Note() else Verdict.ACK
            with suppress(LeaseLost):
                await queue.settle(delivery.token, verdict, after_s=0, note=Note(attempts=1), reason="")
                ended.extend([delivery.submission] * (verdict is Verdict.ACK))


def test_boxes_that_fetch_settle_and_lapse_at_random_lose_and_double_nothing(url: str) -> None:
    """Every settlement that was confirmed stands, whoever held the claim meanwhile."""

    async def main() -> None:
        async with redis_queue(url) as queue:
            put = {await queue.put(b"x", job_id=f"j{number}", user=f"u{number % 3}") for number in range(MESSAGES)}
            ended: list[str] = []
            await asyncio.gather(*(box(url, f"box-{number}", ended, hurries=number == 0) for number in range(4)))
            assert (MESSAGES, put, 0) == (len(ended), set(ended), await queue.depth())

    asyncio.run(main())
