"""What every queue does with a message: order and bytes, waiting for one, names; for one box and for several."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.errors import NoSuchQueue
from runner.job import Note, Verdict
from tests.conformance.queue_harness import LONG_S, OTHER_BOX, QUEUE, QueueHarness, drained, fetched, opened

MIB = 1 << 20


def test_a_message_comes_as_it_was_put(queue_harness: QueueHarness) -> None:
    async def main() -> None:
        async with opened(queue_harness) as queue:
            submission = await queue.put(b'{"id": "a"}', job_id="a", user="ada", priority=3)
            delivery = await fetched(queue)
            assert (b'{"id": "a"}', submission) == (delivery.body, delivery.submission)
            assert (queue_harness.about(queue_harness.now()), Note()) == (delivery.enqueued_at, delivery.note)
            assert await queue.fetch(0) is None, "it is claimed"

    asyncio.run(main())


@pytest.mark.parametrize("body", [b"", b"\xff\x00\r\n\x80", bytes(range(256)) * 100, b"x" * MIB])
def test_bytes_never_change(queue_harness: QueueHarness, body: bytes) -> None:
    """What is malformed is told by the dialect; a queue carries it as it is."""

    async def main() -> None:
        async with opened(queue_harness) as queue:
            await queue.put(body, job_id="a")
            first = await fetched(queue)
            await queue.settle(first.token, Verdict.RETRY, after_s=0, note=Note(attempts=1), reason="")
            assert (body, body) == (first.body, (await fetched(queue)).body)

    asyncio.run(main())


def test_an_oversized_body_is_cut_one_byte_after_the_limit(queue_harness: QueueHarness) -> None:
    """So it is seen to be too large, and costs no more memory than that."""

    async def main() -> None:
        async with opened(queue_harness) as queue:
            await queue.put(b"x" * (3 * MIB), job_id="a")
            assert b"x" * (MIB + 1) == (await fetched(queue)).body

    asyncio.run(main())


def test_what_was_put_is_there_after_a_restart(queue_harness: QueueHarness) -> None:
    async def main() -> None:
        async with opened(queue_harness) as queue:
            submission = await queue.put(b"a", job_id="a")
        async with opened(queue_harness) as queue:
            assert submission == (await fetched(queue)).submission

    asyncio.run(main())


def test_fetching_from_an_empty_queue_ends_when_its_time_is_over(queue_harness: QueueHarness) -> None:
    async def main() -> None:
        async with opened(queue_harness) as queue:
            assert [None, None] == [await queue.fetch(0), await queue.fetch(0.05)]

    asyncio.run(main())


def test_looking_for_a_queue_makes_none(queue_harness: QueueHarness) -> None:
    """A mistyped one would be read by nobody for ever; one that is there is opened like any other."""

    async def main() -> None:
        for _ in range(2):
            async with queue_harness.broker("") as broker:
                with pytest.raises(NoSuchQueue, match=r"there is no queue .*nosuch"):
                    await broker.open("nosuch", make=False)
        async with opened(queue_harness) as queue:
            submission = await queue.put(b"a", job_id="a")
        async with queue_harness.broker("") as broker:
            queue = await broker.open(QUEUE, make=False)
            assert submission == (await fetched(queue, LONG_S)).submission
            await queue.close()

    asyncio.run(main())


def test_a_waiting_fetch_gets_what_another_box_puts(queue_harness: QueueHarness) -> None:
    async def main() -> None:
        async with opened(queue_harness) as queue, opened(queue_harness, OTHER_BOX) as other:
            assert await queue.fetch(0) is None
            waiting = asyncio.create_task(queue.fetch(LONG_S))
            submission = await other.put(b"late", job_id="a")
            delivery = await waiting
            assert delivery is not None
            assert submission == delivery.submission

    asyncio.run(main())


@pytest.mark.able("priority")
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(priorities=st.lists(st.integers(-3, 3) | st.sampled_from([-(10**12), 10**12]), min_size=1, max_size=12))
def test_highest_priority_first_then_oldest(queue_harness: QueueHarness, priorities: list[int]) -> None:
    async def main() -> None:
        async with opened(queue_harness) as queue:
            for number, priority in enumerate(priorities):
                await queue.put(b"%d" % number, job_id=f"j{number}", priority=priority)
                await queue_harness.step()
            order = sorted(range(len(priorities)), key=lambda number: -priorities[number])
            assert order == [int(delivery.body) for delivery in await drained(queue)]

    asyncio.run(main())


@pytest.mark.able("a few priorities")
def test_priorities_that_the_service_knows_come_first_the_others_as_the_nearest(queue_harness: QueueHarness) -> None:
    async def main() -> None:
        async with opened(queue_harness) as queue:
            for number, priority in enumerate([0, 3, -(10**12), 10**12, 3, 9]):
                await queue.put(b"%d" % number, job_id=f"j{number}", priority=priority)
            assert [3, 5, 1, 4, 0, 2] == [int(delivery.body) for delivery in await drained(queue)]

    asyncio.run(main())


@pytest.mark.able("priority")
def test_a_higher_priority_overtakes_what_waits_already(queue_harness: QueueHarness) -> None:
    async def main() -> None:
        async with opened(queue_harness) as queue:
            for number in range(3):
                await queue.put(b"low %d" % number, job_id="low")
                await queue_harness.step()
            first = await fetched(queue)
            await queue.put(b"high", job_id="high", priority=1)
            assert (b"low 0", b"high") == (first.body, (await fetched(queue)).body)

    asyncio.run(main())


@pytest.mark.sound("one receiver")
def test_each_message_goes_to_one_box(queue_harness: QueueHarness) -> None:
    async def main() -> None:
        async with opened(queue_harness) as queue, opened(queue_harness, OTHER_BOX) as other:
            put = {await queue.put(b"x", job_id=f"j{number}") for number in range(40)}
            taken = await asyncio.gather(drained(queue), drained(other))
            submissions = [delivery.submission for delivery in taken[0] + taken[1]]
            assert (sorted(put), 40) == (sorted(submissions), len(set(submissions)))

    asyncio.run(main())


def test_depth_counts_what_waits_now(queue_harness: QueueHarness) -> None:
    async def main() -> None:
        async with opened(queue_harness) as queue:
            assert await queue.depth() == 0
            for number in range(3):
                await queue.put(b"x", job_id=f"j{number}")
            assert await queue.depth() == 3
            delivery = await fetched(queue)
            assert await queue.depth() == 2, "one is claimed"
            await queue.settle(delivery.token, Verdict.RETRY, after_s=queue_harness.delay_s, note=Note(), reason="")
            assert await queue.depth() == 2, "one is delayed"

    asyncio.run(main())


# Names


def test_a_queue_is_made_at_its_first_use_and_listed_from_then_on(queue_harness: QueueHarness) -> None:
    async def main() -> None:
        async with queue_harness.broker() as broker:
            assert await broker.queues() == ()
            for name in ("train", "eval"):
                await (await broker.open(name)).close()
            assert await broker.queues() == ("eval", "train")

    asyncio.run(main())


def test_a_queues_identity_is_equal_on_every_box_and_its_own(queue_harness: QueueHarness) -> None:
    async def main() -> None:
        async with opened(queue_harness) as queue, opened(queue_harness, OTHER_BOX) as other:
            assert queue.identity == other.identity
            async with opened(queue_harness, name="eval") as third:
                assert queue.identity != third.identity
                await queue.put(b"x", job_id="a")
                assert await third.fetch(0) is None

    asyncio.run(main())


# Looking


@pytest.mark.able("peek")
def test_looking_shows_what_waits_is_delayed_and_is_claimed(queue_harness: QueueHarness) -> None:
    """And changes nothing."""

    async def main() -> None:
        async with opened(queue_harness) as queue:
            assert () == await queue.peek(10)
            submissions = {}
            for name in ("claimed", "delayed", "second", "first"):
                priority = 1 if name == "first" else 0
                submissions[name] = await queue.put(name.encode(), job_id=name, user="ada", priority=priority)
                await queue_harness.step()
                if name in {"claimed", "delayed"}:
                    delivery = await fetched(queue)
                    if name == "delayed":
                        after_s = queue_harness.delay_s
                        await queue.settle(delivery.token, Verdict.RETRY, after_s=after_s, note=Note(), reason="")
            for _ in range(2):
                found = await queue.peek(10)
                assert found is not None
                assert ["first", "second", "delayed", "claimed"] == [message.job_id for message in found]
                assert [submissions[message.job_id] for message in found] == [message.submission for message in found]
                assert [b"first", b"second", b"delayed", b"claimed"] == [message.body for message in found]
                assert [False, False, True, False] == [message.due_at is not None for message in found]
                assert [False, False, False, True] == [message.claimed for message in found]
            assert 1 == len([message for message in await queue.peek(1) or () if message.job_id == "first"])
            assert b"first" == (await fetched(queue)).body

    asyncio.run(main())


def test_a_submission_may_be_chosen(queue_harness: QueueHarness) -> None:
    """A client tells the result backend of a job before it puts it, under the key that the box will use."""

    async def main() -> None:
        async with opened(queue_harness) as queue:
            chosen = "0123456789abcdef01234567"
            assert chosen == await queue.put(b"x", job_id="a", submission=chosen)
            assert chosen == (await fetched(queue)).submission

    asyncio.run(main())
