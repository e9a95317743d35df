"""What foreign producers may do to a queue in Redis: nothing of it stops the fetching, and nothing is lost silently."""

from __future__ import annotations

import asyncio
import time

import pytest

from adapters.queues.redis import RedisQueue
from runner.errors import Refused
from runner.job import MESSAGE_MAX_BYTES, Note
from tests.adapters.queues.redis_queues import (
    INBOX,
    OTHER_BOX,
    acknowledge,
    database,
    fetched,
    redis_broker,
    redis_queue,
    until_blocked,
)
from tests.conformance.redis_harness import redis_url

pytestmark = pytest.mark.broker


@pytest.fixture(name="url")
def _url() -> str:
    return redis_url()


def test_one_plain_xadd_is_a_message(url: str) -> None:
    """As the documentation says; it is this queue's, at level 0, of no user, and counts from when it was added."""

    async def main() -> None:
        async with database(url) as redis, redis_queue(url) as queue:
            await redis.xadd(INBOX, {"body": b'{"command": ["true"]}'})
            assert 1 == await queue.depth()
            assert [b'{"command": ["true"]}'] == [message.body for message in await queue.peek(5) or ()]
            delivery = await fetched(queue)
            assert b'{"command": ["true"]}' == delivery.body
            assert 24 == len(delivery.submission)
            assert delivery.enqueued_at == pytest.approx(time.time(), abs=5)
            await acknowledge(queue, delivery)
            assert (None, 0) == (await queue.fetch(0), await queue.depth())

    asyncio.run(main())


def test_a_plain_xadd_wakes_who_waits(url: str) -> None:
    async def main() -> None:
        async with database(url) as redis, redis_queue(url) as queue:
            waiting = asyncio.create_task(queue.fetch(20))
            await until_blocked(redis)
            await redis.xadd(INBOX, {"body": b"x"})
            delivery = await waiting
            assert delivery is not None
            assert b"x" == delivery.body

    asyncio.run(main())


def test_a_foreign_producer_may_say_more(url: str) -> None:
    async def main() -> None:
        async with database(url) as redis, redis_queue(url) as queue:
            await redis.xadd(INBOX, {"body": b"low", "job": "a", "user": "ada", "priority": "not a number"})
            await redis.xadd(INBOX, {"body": b"high", "job": "b", "user": "bob", "priority": "7", "colour": "red"})
            seen = [(message.body, message.job_id, message.user) for message in await queue.peek(5) or ()]
            assert [(b"high", "b", "bob"), (b"low", "a", "ada")] == seen
            (withdrawn,) = await queue.withdraw("a")
            assert b"low" == withdrawn.body

    asyncio.run(main())


def test_names_that_are_no_text_can_be_written_anywhere(url: str) -> None:
    """The token goes into the journal, and names into JSON; turns are still told apart by user."""

    async def main() -> None:
        async with database(url) as redis, redis_queue(url) as queue:
            for user in (b"\xff\x00.~", b"\xfe", "jos\u00e9".encode(), b"u" * 10_000):
                await redis.xadd(INBOX, {"body": b"x", "job": b"\xff", "user": user})
            for message in await queue.peek(5) or ():
                assert b"" not in {message.job_id.encode(), message.user.encode()}
            served = {"jos\u00e9": 5.0, "u" * 10_000: float("nan"), "\udcff": 1e308}
            deliveries = [await queue.fetch(0, served) for _ in range(4)]
            fetched_ones = [delivery for delivery in deliveries if delivery is not None]
            assert 4 == len({delivery.token.encode("ascii") for delivery in fetched_ones})
            users = {message.submission: message.user for message in await queue.peek(5) or ()}
            assert "jos\u00e9" == users[fetched_ones[-1].submission], "who was served most comes last"

    asyncio.run(main())


def test_an_entry_without_a_body_is_a_dead_letter_that_says_so(url: str) -> None:
    async def main() -> None:
        async with database(url) as redis, redis_queue(url) as queue:
            await redis.xadd(INBOX, {"payload": b'{"id": "a"}'})
            await redis.xadd(INBOX, {"body": b"good"})
            assert b"good" == (await fetched(queue)).body
            (row,) = await queue.dead()
            assert 'has no field "body"' in row.reason
            assert await queue.retry_dead(row.submission)
            assert b'payload\n{"id": "a"}' == (await fetched(queue)).body, "what it held can still be read"

    asyncio.run(main())


def test_a_huge_entry_is_cut_and_delivered(url: str) -> None:
    async def main() -> None:
        async with database(url) as redis, redis_queue(url) as queue:
            await redis.xadd(INBOX, {"body": b"x" * (20 << 20), b"\xff\x00": b"y" * (1 << 20)})
            assert MESSAGE_MAX_BYTES + 1 == len((await fetched(queue)).body)

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["list", "string", "hash"])
def test_a_key_of_another_type_is_set_aside_and_told(url: str, kind: str) -> None:
    """A producer that pushes to a list instead must hear of it, and others must not suffer."""

    async def main() -> None:
        async with database(url) as redis, redis_queue(url) as queue:
            submission = await queue.put(b"mine", job_id="a")
            commands = {"list": ("RPUSH", "job"), "string": ("SET", "job"), "hash": ("HSET", "a", "job")}
            name, *arguments = commands[kind]
            await redis.execute_command(name, INBOX, *arguments)
            assert submission == (await fetched(queue)).submission
            (row,) = await queue.dead()
            assert f"was a {kind}" in row.reason
            (aside,) = await redis.keys("{runner:train}:aside:*")
            assert aside.decode() in row.reason
            await redis.xadd(INBOX, {"body": b"again"})
            assert b"again" == (await fetched(queue)).body

    asyncio.run(main())


async def used(queue: RedisQueue) -> None:
    await queue.put(b"x", job_id="a")
    await queue.fetch(0)


@pytest.mark.parametrize("part", ["levels", "refs", "claims", "later", "bell", "number"])
def test_a_broken_key_of_ours_is_named(url: str, part: str) -> None:
    """Somebody can put it right, and nothing else breaks meanwhile."""

    async def main() -> None:
        async with database(url) as redis, redis_queue(url) as queue:
            await redis.delete(f"{INBOX}:{part}")
            await redis.sadd(f"{INBOX}:{part}", "nonsense")
            with pytest.raises(Refused, match=f":{part} is a set"):
                await used(queue)
            await redis.delete(f"{INBOX}:{part}")
            await queue.put(b"x", job_id="a")
            assert await queue.fetch(0) is not None

    asyncio.run(main())


@pytest.mark.parametrize(
    "note",
    [
        b'{"attempts": -5, "faults": 3}',
        b'{"attempts": 9223372036854775807}',
        b'{"faults": 1e300}',
        b'{"history": {}}',
        b'{"last_reason": "\xff"}',
        b'{"more": ' + b"[" * 100_000,
        b'{"last_reason": "' + b"x" * (20 << 20) + b'"}',
    ],
    ids=["negative", "huge", "float", "wrong", "no text", "deep", "large"],
)
def test_a_forged_note_is_none(url: str, note: bytes) -> None:
    """What it says would else end the runner that works by it, again and again."""

    async def main() -> None:
        async with database(url) as redis, redis_queue(url) as queue:
            await queue.put(b"x", job_id="a")
            await redis.hset(f"{INBOX}:notes", await redis.get(f"{INBOX}:number"), note)
            assert Note() == (await fetched(queue)).note

    asyncio.run(main())


def test_an_entry_that_another_client_deleted_is_told(url: str) -> None:
    async def main() -> None:
        async with database(url) as redis, redis_queue(url) as queue:
            await queue.put(b"first", job_id="a")
            await queue.put(b"second", job_id="b")
            ((entry, _), _) = await redis.xrange("{runner:train}:lane:0:")
            await redis.xdel("{runner:train}:lane:0:", entry)
            assert b"second" == (await fetched(queue)).body
            (row,) = await queue.dead()
            assert "deleted" in row.reason
            assert 0 == await queue.depth()

    asyncio.run(main())


def test_a_lane_that_another_client_emptied_is_told_whole(url: str) -> None:
    async def main() -> None:
        async with database(url) as redis, redis_queue(url) as queue:
            for number in range(50):
                await queue.put(b"x", job_id=f"a{number}")
            await redis.xtrim("{runner:train}:lane:0:", maxlen=0)
            await queue.put(b"y", job_id="b")
            assert b"y" == (await fetched(queue, 10)).body
            assert (50, 0) == (len(await queue.dead()), await queue.depth())

    asyncio.run(main())


def test_a_flushed_database_is_an_empty_queue(url: str) -> None:
    """Claims are lost, the fetching goes on."""

    async def main() -> None:
        async with database(url) as redis, redis_queue(url) as queue:
            await queue.put(b"x", job_id="a")
            await fetched(queue)
            await redis.flushdb()
            assert await queue.fetch(0) is None
            await redis.script_flush()
            await queue.put(b"y", job_id="a")
            assert b"y" == (await fetched(queue)).body

    asyncio.run(main())


# Names


def test_a_stream_that_a_foreign_producer_made_is_found(url: str) -> None:
    async def main() -> None:
        async with database(url) as redis, redis_broker(url) as broker:
            await redis.xadd("{runner:theirs}", {"body": b"x"})
            await redis.xadd("{runner:a%2Fb%20c}", {"body": b"x"})
            await redis.xadd("{runner:not encoded}", {"body": b"x"})
            await redis.set("{runner:no stream}", "x")
            await redis.xadd("{other:queue}", {"body": b"x"})
            assert ("a/b c", "theirs") == await broker.queues()
            queue = await broker.open("a/b c")
            assert b"x" == (await fetched(queue)).body
            await queue.close()
            assert ("a/b c", "theirs") == await broker.queues(), "once each"

    asyncio.run(main())


def test_a_stream_among_many_keys_is_found_within_some_calls(url: str) -> None:
    """No call looks at all keys at once."""

    async def main() -> None:
        async with database(url) as redis, redis_broker(url) as broker:
            for first in range(0, 60_000, 10_000):
                await redis.mset({f"cache:{number}": "x" for number in range(first, first + 10_000)})
            await redis.xadd("{runner:theirs}", {"body": b"x"})
            slowest, found = 0.0, tuple[str, ...]()
            for _ in range(10):
                began = time.monotonic()
                found = await broker.queues()
                slowest = max(slowest, time.monotonic() - began)
            assert ("theirs",) == found
            assert slowest < 0.5

    asyncio.run(main())


def test_a_url_with_a_queue_shows_that_one_alone(url: str) -> None:
    async def main() -> None:
        async with redis_broker(url) as broker:
            for name in ("train", "eval"):
                await (await broker.open(name)).close()
        async with redis_broker(f"{url}?queue=train", box=OTHER_BOX) as broker:
            assert ("train",) == await broker.queues()

    asyncio.run(main())


@pytest.mark.parametrize("name", ["a b", "{x}", "a}b", "*", "ü/..", "a:b", "\x00"])
def test_a_name_of_any_kind_is_its_own_queue(url: str, name: str) -> None:
    async def main() -> None:
        async with redis_queue(url, name=name) as queue, redis_queue(url, name="other") as other:
            await queue.put(b"x", job_id="a")
            assert await other.fetch(0) is None
            assert b"x" == (await fetched(queue)).body
        async with redis_broker(url) as broker:
            assert tuple(sorted(("other", name))) == await broker.queues()

    asyncio.run(main())
