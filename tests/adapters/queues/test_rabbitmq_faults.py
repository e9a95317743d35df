"""Connections that are cut at any moment, brokers that stand still or start anew: nothing is lost, nothing doubled."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from adapters.queues.rabbitmq import RabbitQueue
from runner.errors import LeaseLost, Unavailable
from runner.job import Note, Verdict
from runner.ports import Delivery
from tests.adapters.queues.rabbit_foreign import TYPES, foreigner, opened
from tests.conformance.queue_harness import OTHER_BOX, acknowledge, drained, fetched
from tests.conformance.rabbit_harness import RabbitHost, rabbit_host
from tests.fault_proxy import FaultProxy, proxied
from tests.private_brokers import PrivateRabbit, started

pytestmark = pytest.mark.broker

T = TypeVar("T")

ROUNDS = 40
LONG_S, SHORT_S = 60.0, 2.0
MOMENT_S = 0.012
"""A rotation takes about so long."""


@pytest.fixture
def host() -> RabbitHost:
    return rabbit_host()


@pytest.fixture(params=TYPES)
def queue_type(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def until_done(call: Callable[[], Awaitable[T]]) -> T:
    """Ask again for as long as the broker is away, as the runner does."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await call()
            except Unavailable:
                await asyncio.sleep(0.05)


async def cut_within(proxy: FaultProxy, seeded: random.Random, work: Awaitable[object]) -> object:
    """Cut all connections at some moment of a piece of work; return its result or error."""

    async def cut() -> None:
        await asyncio.sleep(seeded.random() * MOMENT_S)
        proxy.cut()

    done, _ = await asyncio.gather(work, cut(), return_exceptions=True)
    return done


async def renewed(queue: RabbitQueue, held: list[Delivery]) -> None:
    """Renew all at once, and hand on the first error."""
    done = await asyncio.gather(*(queue.renew(delivery.token) for delivery in held), return_exceptions=True)
    for error in done:
        if isinstance(error, BaseException):
            raise error


async def claimed(queue: RabbitQueue, other: RabbitQueue, count: int) -> list[Delivery]:
    for number in range(count):
        await other.put(b"%d" % number * 3000, job_id=f"j{number}")
    return [await fetched(queue) for _ in range(count)]


def release(queue: RabbitQueue, delivery: Delivery) -> Callable[[], Awaitable[None]]:
    return lambda: queue.settle(delivery.token, Verdict.RELEASE, after_s=0, note=Note(), reason="")


async def left_over(host: RabbitHost) -> list[str]:
    """Name the queues in which something lies yet, by asking each itself."""
    names = [row["name"] for row in msgspec.json.decode(host.ask("GET", f"queues/{host.path}?columns=name"))]
    async with foreigner(host) as other:
        return [name for name in names if await other.count(name)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_rotations_that_are_cut_at_random_lose_and_double_nothing(host: RabbitHost, queue_type: str, seed: int) -> None:
    async def main() -> None:
        seeded, at = random.Random(seed), partial(opened, host, lease_s=LONG_S, queue_type=queue_type)
        async with (
            proxied("127.0.0.1", host.port) as proxy,
            at(port=proxy.port) as queue,
            at(OTHER_BOX) as other,
        ):
            held = await claimed(queue, other, 6)
            for number in range(ROUNDS):
                await cut_within(proxy, seeded, renewed(queue, held))
                await until_done(lambda: renewed(queue, held))
                put_back = release(queue, held.pop(seeded.randrange(6)))
                await cut_within(proxy, seeded, put_back())
                await until_done(put_back)
                assert 1 == await other.depth(), f"round {number}"
                held.append(await until_done(lambda: fetched(queue, 5)))
            for delivery in held:
                await until_done(partial(acknowledge, queue, delivery))
        assert [] == await left_over(host)

    asyncio.run(main())


@pytest.mark.slow
def test_fetches_that_are_cut_at_random_lose_and_double_nothing(host: RabbitHost, queue_type: str) -> None:
    """What was claimed as the connection went comes back after a lease; each is settled once."""

    async def main() -> None:
        seeded, at = random.Random(3), partial(opened, host, lease_s=SHORT_S, queue_type=queue_type)
        settled: Counter[bytes] = Counter()
        async with (
            proxied("127.0.0.1", host.port) as proxy,
            at(port=proxy.port) as queue,
            at(OTHER_BOX) as other,
        ):
            for number in range(ROUNDS):
                await other.put(b"%d" % number, job_id=f"j{number}")
            for _ in range(ROUNDS):
                taken = await cut_within(proxy, seeded, queue.fetch(1.0))
                if isinstance(taken, Delivery) and await is_settled(queue, taken):
                    settled[taken.body] += 1
            await asyncio.sleep(SHORT_S + 0.6)
            settled.update(delivery.body for delivery in await drained(other))
        assert [] == await left_over(host)
        assert {b"%d" % number: 1 for number in range(ROUNDS)} == settled

    asyncio.run(main())


async def is_settled(queue: RabbitQueue, delivery: Delivery) -> bool:
    try:
        await until_done(lambda: acknowledge(queue, delivery))
    except LeaseLost:
        return False
    return True


# Brokers of the test's own


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[PrivateRabbit]:
    with started(PrivateRabbit(tmp_path / "broker")) as made:
        yield made


def host_of(broker: PrivateRabbit) -> RabbitHost:
    return RabbitHost("/", broker.url(broker.port), f"http://127.0.0.1:{broker.management}", "guest", "guest")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_claims_outlive_their_broker(broker: PrivateRabbit, how: str) -> None:
    """
    Everything durable is there after a restart, and the next call connects anew.

    A classic queue whose node is killed may deliver once more what was taken from it just before.
    """

    async def main() -> None:
        host = host_of(broker)
        for queue_type in TYPES:
            async with opened(host, name=queue_type, lease_s=LONG_S, queue_type=queue_type) as queue:
                held = await claimed(queue, queue, 3)
                waiting = asyncio.create_task(queue.fetch(20))
                await queue.depth()
                await asyncio.to_thread(broker.stop if how == "stop" else broker.kill)
                with pytest.raises(Unavailable):
                    await waiting
                with pytest.raises(Unavailable):
                    await queue.renew(held[0].token)
                await asyncio.to_thread(broker.start)
                await until_done(lambda: renewed(queue, held))  # noqa: B023 - within the round
                await acknowledge(queue, held[0])
                await queue.settle(held[1].token, Verdict.RETRY, after_s=1, note=Note(attempts=1), reason="")
                await queue.settle(held[2].token, Verdict.REJECT, after_s=0, note=Note(), reason="why")
                await asyncio.sleep(1.2)
                back = [(it.body, it.note) for it in await drained(queue)]
                assert (held[1].body, Note(attempts=1)) in back
                assert len(back) == 1 or (how, queue_type) == ("kill", "classic"), "nothing came twice"
                assert ["why"] == [row.reason for row in await queue.dead()]

    asyncio.run(main())


@pytest.mark.slow
def test_a_broker_that_stands_still_is_told_within_seconds_and_claims_stand_when_it_goes_on(
    broker: PrivateRabbit,
) -> None:
    async def main() -> None:
        async with opened(host_of(broker), lease_s=LONG_S) as queue:
            held = await claimed(queue, queue, 2)
            broker.freeze()
            try:
                async with asyncio.timeout(25):
                    results = await asyncio.gather(renewed(queue, held), queue.fetch(5), return_exceptions=True)
            finally:
                broker.thaw()
            assert [Unavailable, Unavailable] == [type(result) for result in results]
            await until_done(lambda: renewed(queue, held))
            for delivery in held:
                await acknowledge(queue, delivery)
            assert None is await until_done(lambda: queue.fetch(0))

    asyncio.run(main())
