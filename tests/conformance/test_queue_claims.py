"""What every queue keeps to about claims: leases that lapse and are renewed, tokens, fetches that are cut off."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from runner.errors import LeaseLost
from runner.job import Note, Verdict
from runner.ports import Delivery, Queue
from tests.conformance.queue_harness import (
    BOX,
    LONG_S,
    OTHER_BOX,
    QUEUE,
    QueueHarness,
    acknowledge,
    fetched,
    opened,
)

LOOKS_AGAIN_S = 1.5
"""A queue looks for lapsed claims at least this often."""

# Claims


def test_a_lapsed_claim_is_another_boxes(queue_harness: QueueHarness) -> None:
    """A box that died holds nothing up for longer than its lease."""

    async def main() -> None:
        async with opened(queue_harness) as queue:
            await queue.put(b"a", job_id="a")
            first = await fetched(queue)
            await queue_harness.pass_time(queue_harness.lapsed_s)
            async with opened(queue_harness, OTHER_BOX) as other:
                second = await fetched(other)
                assert (first.submission, first.enqueued_at) == (second.submission, second.enqueued_at)
                assert first.token != second.token
                with pytest.raises(LeaseLost):
                    await queue.renew(first.token)
                for verdict in Verdict:
                    with pytest.raises(LeaseLost):
                        await queue.settle(first.token, verdict, after_s=0, note=Note(faults=4), reason="late")
                await other.renew(second.token)
                await acknowledge(other, second)

    asyncio.run(main())


def test_a_settlement_that_came_too_late_leaves_no_trace(queue_harness: QueueHarness) -> None:
    """The loser's note must not stand beside the winner's message."""

    async def main() -> None:
        async with opened(queue_harness) as queue, opened(queue_harness, OTHER_BOX) as other:
            await queue.put(b"a", job_id="a")
            first = await fetched(queue)
            await queue_harness.pass_time(queue_harness.lapsed_s)
            second = await fetched(other)
            with pytest.raises(LeaseLost):
                await queue.settle(first.token, Verdict.RETRY, after_s=0, note=Note(faults=4), reason="late")
            await other.settle(second.token, Verdict.RELEASE, after_s=0, note=second.note, reason="")
            assert Note() == (await fetched(other)).note

    asyncio.run(main())


def test_a_renewed_claim_lasts_another_lease(queue_harness: QueueHarness) -> None:
    async def main() -> None:
        async with opened(queue_harness) as queue:
            await queue.put(b"a", job_id="a")
            delivery = await fetched(queue)
            for _ in range(3):
                await queue_harness.pass_time(queue_harness.lease_s * 0.7)
                await queue.renew(delivery.token)
            await queue_harness.pass_time(queue_harness.lease_s * 0.7)
            async with opened(queue_harness, OTHER_BOX) as other:
                assert await other.fetch(0) is None
                await acknowledge(queue, delivery)
                await queue_harness.pass_time(queue_harness.lapsed_s)
                assert await other.fetch(0) is None

    asyncio.run(main())


@pytest.mark.slow
def test_a_box_that_slept_past_its_lease_does_not_take_its_own_job_up_again(queue_harness: QueueHarness) -> None:
    """It wakes to its next fetch and to the renewal at once; in this order the job would run twice."""

    async def main() -> None:
        async with opened(queue_harness) as queue:
            await queue.put(b"a", job_id="a")
            delivery = await fetched(queue)
            await queue_harness.pass_time(queue_harness.lapsed_s)
            assert await queue.fetch(LOOKS_AGAIN_S) is None
            await queue.renew(delivery.token)
            await acknowledge(queue, delivery)
            assert await queue.fetch(0) is None

    asyncio.run(main())


def test_a_late_renewal_and_another_box_never_both_succeed(queue_harness: QueueHarness) -> None:
    """Of two that reach for a lapsed claim at once, one has it."""

    async def main() -> None:
        async with opened(queue_harness) as queue:
            for number in range(queue_harness.rounds):
                await queue.put(b"%d" % number, job_id=f"j{number}")
                first = await fetched(queue)
                await queue_harness.pass_time(queue_harness.lapsed_s)
                async with opened(queue_harness, OTHER_BOX) as other:
                    renewal, second = await asyncio.gather(
                        queue.renew(first.token), other.fetch(0), return_exceptions=True
                    )
                    assert (renewal is None) == (second is None), (renewal, second)
                    holder = (queue, first) if renewal is None else (other, second)
                    assert isinstance(holder[1], Delivery)
                    await acknowledge(holder[0], holder[1])

    asyncio.run(main())


def test_a_claim_is_its_tokens_also_after_a_restart(queue_harness: QueueHarness) -> None:
    """The journal keeps the token; the next life of the runner renews and settles with it."""

    async def main() -> None:
        async with opened(queue_harness) as queue:
            await queue.put(b"a", job_id="a")
            delivery = await fetched(queue)
        async with opened(queue_harness) as queue:
            await queue_harness.pass_time(queue_harness.lease_s * 0.7)
            await queue.renew(delivery.token)
            await queue_harness.pass_time(queue_harness.lease_s * 0.7)
            assert await queue.fetch(0) is None
            await acknowledge(queue, delivery)
            await queue_harness.pass_time(queue_harness.lapsed_s)
        async with opened(queue_harness) as queue:
            assert await queue.fetch(0) is None

    asyncio.run(main())


@pytest.mark.parametrize("verdict", [Verdict.RETRY, Verdict.REJECT])
def test_a_claim_of_an_earlier_life_is_settled_with_its_note(queue_harness: QueueHarness, verdict: Verdict) -> None:
    """Its journal has the body, for services where nothing else has it while the message is claimed."""

    async def main() -> None:
        async with opened(queue_harness) as queue:
            await queue.put(b"a", job_id="a")
            delivery = await fetched(queue)
        async with opened(queue_harness) as queue:
            queue.recall(delivery.token, delivery.body, delivery.note)
            await queue.renew(delivery.token)
            note = Note(attempts=1, last_reason="failed")
            await queue.settle(delivery.token, verdict, after_s=0, note=note, reason="failed")
            if verdict is Verdict.REJECT:
                (row,) = await queue.dead()
                assert (b"a", delivery.submission, note) == (row.body, row.submission, row.note)
            else:
                again = await fetched(queue)
                assert (b"a", delivery.submission, note) == (again.body, again.submission, again.note)

    asyncio.run(main())


@pytest.mark.parametrize("token", ["", "nonsense", "../../etc/passwd~0", "a~b~c"])
def test_a_token_that_never_was_is_a_lost_lease(queue_harness: QueueHarness, token: str) -> None:
    async def main() -> None:
        async with opened(queue_harness) as queue:
            with pytest.raises(LeaseLost):
                await queue.renew(token)
            for verdict in Verdict:
                with pytest.raises(LeaseLost):
                    await queue.settle(token, verdict, after_s=0, note=Note(), reason="")

    asyncio.run(main())


# Cancellation and the end


def test_a_message_that_comes_as_the_call_is_cancelled_is_not_lost(queue_harness: QueueHarness) -> None:
    """It is released, or its claim lapses."""

    async def main() -> None:
        async with AsyncExitStack() as stack:
            missed = dict[str, Queue]()
            for steps in range(queue_harness.rounds + 5):
                queue, other = [
                    await stack.enter_async_context(opened(queue_harness, box, f"{QUEUE}{steps}"))
                    for box in (BOX, OTHER_BOX)
                ]
                if submission := await _cut_off(queue, other, steps):
                    missed[submission] = other
            assert missed
            await queue_harness.pass_time(queue_harness.lapsed_s)
            for submission, other in missed.items():
                delivery = await fetched(other, LONG_S)
                assert submission == delivery.submission
                await acknowledge(other, delivery)

    asyncio.run(main())


async def _cut_off(queue: Queue, other: Queue, steps: int) -> str:
    """Cancel a fetch; return what came meanwhile, where it was not delivered."""
    waiting = asyncio.create_task(queue.fetch(LONG_S))
    if steps == 0:
        await queue.depth()
        waiting.cancel()
    submission = await other.put(b"x", job_id="a")
    for _ in range(steps):
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    if waiting.cancelled():
        return submission
    delivery = waiting.result()
    assert delivery is not None
    await acknowledge(queue, delivery)
    return ""


def test_closing_ends_a_waiting_fetch(queue_harness: QueueHarness) -> None:
    async def main() -> None:
        async with opened(queue_harness) as queue:
            waiting = asyncio.create_task(queue.fetch(LONG_S))
            await queue.depth()
            await queue.close()
            await queue.close()
            async with asyncio.timeout(LONG_S / 2):
                assert await waiting is None

    asyncio.run(main())
