"""What queues do that hold their messages by user: turns go round, so that nobody waits behind another's thousand."""

from __future__ import annotations

import asyncio
import math

import pytest

from runner.job import Note, Verdict
from tests.conformance.queue_harness import OTHER_BOX, QueueHarness, acknowledge, fetched, opened

pytestmark = pytest.mark.able("by user")


def test_the_user_who_was_served_least_is_next(queue_harness: QueueHarness) -> None:
    async def main() -> None:
        async with opened(queue_harness) as queue:
            assert queue.by_user
            for number, user in enumerate(["ada", "ada", "bob", "cy", ""]):
                await queue.put(b"%d" % number, job_id=f"j{number}", user=user)
                await queue_harness.step()
            served = {"ada": 9.0, "bob": 4.0, "": 7.0, "somebody else": 0.0}
            taken = [await queue.fetch(0, served) for _ in range(5)]
            assert [b"3", b"2", b"4", b"0", b"1"] == [delivery.body for delivery in taken if delivery is not None]

    asyncio.run(main())


def test_priority_counts_more_than_turns(queue_harness: QueueHarness) -> None:
    async def main() -> None:
        async with opened(queue_harness) as queue:
            await queue.put(b"low", job_id="a", user="ada")
            await queue.put(b"high", job_id="b", user="bob", priority=1)
            first = await queue.fetch(0, {"bob": 100.0})
            assert first is not None
            assert b"high" == first.body

    asyncio.run(main())


def test_users_served_alike_come_in_the_order_of_their_oldest_message(queue_harness: QueueHarness) -> None:
    async def main() -> None:
        async with opened(queue_harness) as queue:
            for number, user in enumerate(["zoe", "ada", "zoe"]):
                await queue.put(b"%d" % number, job_id=f"j{number}", user=user)
                await queue_harness.step()
            assert [b"0", b"1", b"2"] == [(await fetched(queue)).body for _ in range(3)]

    asyncio.run(main())


def test_a_user_at_their_limit_is_passed_over(queue_harness: QueueHarness) -> None:
    """Else the poller would claim the same capped user's messages for ever, and give each back."""

    async def main() -> None:
        async with opened(queue_harness) as queue:
            for name, user, priority in (("a", "ada", 5), ("A", "ada", 0), ("b", "bob", 0)):
                await queue.put(name.encode(), job_id=name, user=user, priority=priority)
                await queue_harness.step()
            other = await queue.fetch(0, {"ada": math.inf, "bob": 7.0})
            assert other is not None
            assert b"b" == other.body
            assert await queue.fetch(0, {"ada": math.inf}) is None
            assert 2 == await queue.depth()
            assert [b"a", b"A"] == [(await fetched(queue)).body for _ in range(2)]

    asyncio.run(main())


def test_what_lapses_or_is_due_is_passed_over_as_well(queue_harness: QueueHarness) -> None:
    async def main() -> None:
        async with opened(queue_harness) as queue:
            await queue.put(b"a", job_id="a", user="ada")
            retried = await fetched(queue)
            await queue.settle(retried.token, Verdict.RETRY, after_s=0, note=Note(attempts=1), reason="")
            assert await queue.fetch(0, {"ada": math.inf}) is None
            assert b"a" == (await fetched(queue)).body
        await queue_harness.pass_time(queue_harness.lapsed_s)
        async with opened(queue_harness, OTHER_BOX) as other:
            assert await other.fetch(0, {"ada": math.inf}) is None
            assert b"a" == (await fetched(other)).body

    asyncio.run(main())


def test_who_named_no_user_is_told_apart(queue_harness: QueueHarness) -> None:
    """The share goes by the turn that a message took, whatever user its body names."""

    async def main() -> None:
        async with opened(queue_harness) as queue:
            await queue.put(b"a", job_id="a", user="ada")
            await queue_harness.step()
            await queue.put(b"b", job_id="b")
            assert [False, True] == [(await fetched(queue)).anonymous for _ in range(2)]

    asyncio.run(main())


def test_a_retry_and_a_dead_letter_stay_their_users(queue_harness: QueueHarness) -> None:
    async def main() -> None:
        async with opened(queue_harness) as queue:
            for name, user in (("a", "ada"), ("b", "bob")):
                await queue.put(name.encode(), job_id=name, user=user)
                await queue_harness.step()
            retried = await fetched(queue)
            await queue.settle(retried.token, Verdict.RETRY, after_s=0, note=Note(attempts=1), reason="")
            first = await queue.fetch(0, {"ada": 1.0})
            assert first is not None
            assert b"b" == first.body
            await acknowledge(queue, first)
            rejected = await fetched(queue)
            await queue.settle(rejected.token, Verdict.REJECT, after_s=0, note=Note(), reason="why")
            (row,) = await queue.dead()
            await queue.retry_dead(row.submission)
            await queue.put(b"c", job_id="c", user="cy")
            async with opened(queue_harness, OTHER_BOX) as other:
                last = await other.fetch(0, {"ada": 1.0})
                assert last is not None
                assert b"c" == last.body

    asyncio.run(main())


def test_hundreds_of_users_are_told_apart(queue_harness: QueueHarness) -> None:
    async def main() -> None:
        async with opened(queue_harness) as queue:
            names = [f"user {number}" for number in range(200)]
            for name in ["greedy"] * 20 + names:
                await queue.put(name.encode(), job_id=name, user=name)
            served: dict[str, float] = {}
            for _ in range(201):
                delivery = await queue.fetch(0, served)
                assert delivery is not None
                served[delivery.body.decode()] = 1.0
                await acknowledge(queue, delivery)
            assert {"greedy", *names} == set(served), "each had one turn before anybody had two"

    asyncio.run(main())
