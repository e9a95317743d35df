"""Whatever is done to a queue in Redis in whatever order, what finds a message and where it stands agree."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from adapters.queues.redis import RedisQueue
from runner.errors import LeaseLost
from runner.job import Note, Verdict
from tests.adapters.queues.redis_queues import INBOX, OTHER_BOX, acknowledge, database, redis_queue
from tests.conformance.redis_harness import pass_time, redis_url

pytestmark = pytest.mark.broker

STEPS, POISONS = 150, 1000


@pytest.fixture(name="url")
def _url() -> str:
    return redis_url()


class Somebody:
    """Does anything that a box, a client, or a foreign producer may do, by chance."""

    def __init__(self, url: str, redis: Any, queues: list[RedisQueue], chance: random.Random) -> None:
        self.url, self.redis, self.queues, self.chance = url, redis, queues, chance
        self.claims: list[str] = []
        self.settled: set[tuple[str, Verdict]] = set()
        self.put_count = self.acknowledged = self.dropped = 0

    async def step(self) -> None:
        does: list[Callable[[], Awaitable[None]]] = [self.put, self.add, self.fetch, self.fetch, self.settle]
        does += [self.settle, self.renew, self.withdraw, self.lapse, self.retry_dead, self.drop_dead]
        await self.chance.choice(does)()

    @property
    def queue(self) -> RedisQueue:
        return self.chance.choice(self.queues)

    async def put(self) -> None:
        user, priority = self.chance.choice(["", "ada", "bob:.~", "ü"]), self.chance.randint(-2, 2)
        await self.queue.put(b"x", job_id=f"j{self.chance.randint(0, 9)}", user=user, priority=priority)
        self.put_count += 1

    async def add(self) -> None:
        field = self.chance.choice(["body", "body", "nothing"])
        await self.redis.xadd(INBOX, {field: b"x", "user": "ada", "priority": self.chance.randint(-2, 2)})
        self.put_count += 1

    async def fetch(self) -> None:
        delivery = await self.queue.fetch(0, {"ada": self.chance.random(), "": self.chance.random()})
        self.claims += [delivery.token] if delivery is not None else []

    async def settle(self) -> None:
        if not self.claims:
            return
        token, verdict = self.chance.choice(self.claims), self.chance.choice(list(Verdict))
        with suppress(LeaseLost):
            after_s = self.chance.choice([0.0, 30.0])
            await self.queue.settle(token, verdict, after_s=after_s, note=Note(attempts=1), reason="why")
            if (token, verdict) not in self.settled:
                self.settled.add((token, verdict))
                self.acknowledged += verdict is Verdict.ACK

    async def renew(self) -> None:
        if self.claims:
            with suppress(LeaseLost):
                await self.queue.renew(self.chance.choice(self.claims))

    async def withdraw(self) -> None:
        taken = await self.queue.withdraw(f"j{self.chance.randint(0, 9)}")
        self.claims += [delivery.token for delivery in taken]

    async def lapse(self) -> None:
        pass_time(self.url, self.chance.choice([20.0, 61.0, 121.0]))

    async def retry_dead(self) -> None:
        for row in (await self.queue.dead())[:1]:
            await self.queue.retry_dead(row.submission)

    async def drop_dead(self) -> None:
        for row in (await self.queue.dead())[:1]:
            self.dropped += await self.queue.drop_dead(row.submission)


async def scored(redis: Any, part: str) -> dict[str, float]:
    return {name.decode(): score for name, score in await redis.zrange(f"{INBOX}:{part}", 0, -1, withscores=True)}


async def standing(redis: Any) -> dict[str, str]:
    """Return all messages as ``number.level.user``, and the consumer that says how each stands."""
    found = {}
    for lane in await redis.keys(f"{INBOX}:lane:*"):
        level, user = lane.decode().removeprefix(f"{INBOX}:lane:").split(":", 1)
        entries = {entry.decode() for entry, _ in await redis.xrange(lane)}
        pending = await redis.xpending_range(lane, "boxes", "-", "+", 10_000)
        assert entries == {row["message_id"].decode() for row in pending}, "each stands in the pending list"
        names = {row["consumer"].decode() for row in pending} | {"free", "later"}
        assert names >= {row["name"].decode() for row in await redis.xinfo_consumers(lane, "boxes")}, "no old claims"
        for row in pending:
            number = row["message_id"].decode().removesuffix("-1")
            found[f"{number}.{level}.{user}"] = row["consumer"].decode()
    return found


async def check(redis: Any) -> None:
    """Compare all that finds messages with where they stand."""
    stands = await standing(redis)
    assert sorted(stands) == sorted(ref.split(".", 1)[1] for ref in await scored(redis, "refs"))
    later = {name for name, consumer in stands.items() if consumer == "later"}
    assert later == {ref.split(".", 1)[1] for ref in await scored(redis, "later")}
    claimed = {name for name, consumer in stands.items() if consumer not in {"free", "later"}}
    assert claimed == {ref.split(".", 1)[1] for ref in await scored(redis, "claims")}
    oldest: dict[str, dict[str, float]] = {}
    for name in stands.keys() - later - claimed:
        number, level, user = name.split(".", 2)
        users = oldest.setdefault(level, {})
        users[user] = min(users.get(user, float("inf")), float(number))
    assert {level: -float(level) for level in oldest} == await scored(redis, "levels")
    assert oldest == {level: await scored(redis, f"level:{level}") for level in oldest}
    numbers = {name.split(".")[0] for name in stands}
    assert numbers >= {number.decode() for number in await redis.hkeys(f"{INBOX}:notes")}
    handles = {handle.decode() for handle in await redis.hkeys(f"{INBOX}:dead:ids")}
    assert handles == set(await scored(redis, "dead:at"))
    assert len(handles) == await redis.xlen(f"{INBOX}:dead")


@pytest.mark.parametrize("seed", range(12))
def test_everything_agrees_after_anything(url: str, seed: int) -> None:
    async def main() -> None:
        async with redis_queue(url) as queue, redis_queue(url, box=OTHER_BOX) as other, database(url) as redis:
            somebody = Somebody(url, redis, [queue, other], random.Random(seed))
            for step in range(STEPS):
                await somebody.step()
                if step % 10 == 0:
                    await check(redis)
            await check(redis)
            pass_time(url, 1000)
            await other.fetch(0)
            left = await queue.depth() + 1 if (await redis.zcard(f"{INBOX}:refs")) else 0
            dead = len(await queue.dead())
            assert somebody.put_count == somebody.acknowledged + somebody.dropped + left + dead

    asyncio.run(main())


def poison(chance: random.Random) -> dict[bytes, bytes]:
    """Return an entry such as nobody means to send."""
    names = [b"body", b"Body", b"", b"user", b"priority", b"job", chance.randbytes(5)]
    return {chance.choice(names): chance.randbytes(chance.randint(0, 40)) for _ in range(chance.randint(1, 4))}


def test_of_a_thousand_poisonous_messages_each_leaves_a_trace(url: str) -> None:
    """It is delivered, so that a dialect may judge it, or it is a dead letter with a reason."""

    async def main() -> None:
        chance = random.Random(7)
        async with redis_queue(url) as queue, database(url) as redis:
            sent = [poison(chance) for _ in range(POISONS)]
            for entry in sent:
                await redis.xadd(INBOX, entry)
            bodies = []
            while (delivery := await queue.fetch(0)) is not None:
                bodies.append(delivery.body)
                await acknowledge(queue, delivery)
            assert sorted(entry[b"body"] for entry in sent if b"body" in entry) == sorted(bodies)
            rows = await queue.dead()
            assert POISONS == len(bodies) + len(rows)
            assert all('no field "body"' in row.reason for row in rows)

    asyncio.run(main())
