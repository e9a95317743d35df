"""Claims on SQS that outlast what the service hides a message for, and those of boxes that died with them."""

from __future__ import annotations

import asyncio

import pytest

from adapters.queues.sqs_access import Limits
from adapters.queues.sqs_places import claim_name
from adapters.queues.sqs_queue import SqsQueue
from runner.errors import LeaseLost, Unavailable
from runner.job import Note, Verdict
from runner.ports import Delivery
from tests.adapters.queues.sqs_queues import BOX, OTHER_BOX, Account, fetched

pytestmark = [pytest.mark.broker, pytest.mark.slow]

SHORT = Limits(cap_s=6.0, look_s=0.5)
NOTE = Note(attempts=2, last_reason="failed")
HOME = claim_name("train", BOX)


@pytest.fixture
def account() -> Account:
    return Account()


async def put_and_moved(queue: SqsQueue) -> Delivery:
    """Claim a message that was retried once, and hold it for longer than the service would."""
    await queue.put(b"x", job_id="a")
    await queue.settle((await fetched(queue)).token, Verdict.RETRY, after_s=0, note=NOTE, reason="")
    delivery = await fetched(queue)
    await held(queue, delivery, 5.0)
    return delivery


async def held(queue: SqsQueue, delivery: Delivery, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    ends = loop.time() + seconds
    while loop.time() < ends:
        await asyncio.sleep(0.6)
        await queue.renew(delivery.token)


def test_a_claim_outlasts_the_services_cap(account: Account) -> None:
    """It moves twice; nobody else ever gets it, and it is settled under its first token."""

    async def main() -> None:
        async with account.queue(limits=SHORT) as queue, account.queue(box=OTHER_BOX, limits=SHORT) as other:
            await queue.put(b"x", job_id="a")
            delivery = await fetched(queue)
            watching = asyncio.create_task(other.fetch(11.0))
            await held(queue, delivery, 10.0)
            assert (await watching, 0) == (None, await queue.depth())
            await queue.settle(delivery.token, Verdict.ACK, after_s=0, note=delivery.note, reason="")
            assert [] == await account.bodies(HOME) + await account.bodies("train")
        async with account.broker() as broker:
            assert ("train",) == await broker.queues(), "claim queues hold no jobs"

    asyncio.run(main())


def test_a_moved_claim_is_retried_in_its_own_queue(account: Account) -> None:
    async def main() -> None:
        async with account.queue(limits=SHORT) as queue:
            first = await put_and_moved(queue)
            again = Note(attempts=3)
            await queue.settle(first.token, Verdict.RETRY, after_s=0, note=again, reason="")
            second = await fetched(queue)
            assert (b"x", again, first.submission) == (second.body, second.note, second.submission)
            assert first.enqueued_at == second.enqueued_at

    asyncio.run(main())


def test_a_moved_claim_is_found_after_a_restart(account: Account) -> None:
    """The journal has the first token; what it named is gone, and the message lies in the box's claim queue."""

    async def main() -> None:
        async with account.queue(limits=SHORT) as queue:
            delivery = await put_and_moved(queue)
        async with account.queue(limits=Limits(cap_s=6.0, look_s=60.0)) as queue:
            for _ in range(20):
                try:
                    await queue.renew(delivery.token)
                    break
                except Unavailable:
                    await asyncio.sleep(0.2)
            await queue.settle(delivery.token, Verdict.RETRY, after_s=0, note=Note(attempts=3), reason="")
            again = await fetched(queue)
            assert (b"x", Note(attempts=3)) == (again.body, again.note)

    asyncio.run(main())


def test_a_moved_claim_of_a_box_that_died_goes_to_another(account: Account) -> None:
    """As it was claimed, once, and the first box is lost when it wakes."""

    async def main() -> None:
        async with account.queue(limits=SHORT) as queue, account.queue(box=OTHER_BOX, limits=SHORT) as other:
            first = await put_and_moved(queue)
            second = None
            async with asyncio.timeout(60):
                while second is None:
                    second = await other.fetch(1.0)
            assert (b"x", NOTE, first.submission) == (second.body, second.note, second.submission)
            with pytest.raises(LeaseLost):
                await queue.renew(first.token)
            await other.settle(second.token, Verdict.ACK, after_s=0, note=NOTE, reason="")
            assert [] == await account.bodies(HOME) + await account.bodies("train")

    asyncio.run(main())


def test_a_claim_that_lives_is_left_alone_by_other_boxes(account: Account) -> None:
    async def main() -> None:
        async with account.queue(limits=SHORT) as queue, account.queue(box=OTHER_BOX, limits=SHORT) as other:
            delivery = await put_and_moved(queue)
            holding = asyncio.create_task(held(queue, delivery, 6.0))
            taken = [await other.fetch(1.0) for _ in range(6)]
            await holding
            assert [None] * 6 == taken
            await queue.settle(delivery.token, Verdict.ACK, after_s=0, note=NOTE, reason="")

    asyncio.run(main())


def test_a_claim_whose_time_is_over_here_is_lost_whatever_the_service_says(account: Account) -> None:
    """The service takes stale handles for good ones at times; the box's own clock counts, also while it sleeps."""

    async def main() -> None:
        slept = [0.0]
        async with account.queue(lease_s=60, clock=lambda: asyncio.get_running_loop().time() + slept[0]) as queue:
            await queue.put(b"x", job_id="a")
            delivery = await fetched(queue)
            slept[0] = 61.0
            with pytest.raises(LeaseLost):
                await queue.settle(delivery.token, Verdict.ACK, after_s=0, note=delivery.note, reason="")
            with pytest.raises(LeaseLost):
                await queue.renew(delivery.token)

    asyncio.run(main())


def test_an_answer_that_is_read_after_a_sleep_is_not_believed(account: Account) -> None:
    """The service gave the message while the box slept, and may have given it to another since."""

    async def main() -> None:
        slept = [0.0]
        async with account.queue(lease_s=4, clock=lambda: asyncio.get_running_loop().time() + slept[0]) as queue:
            assert await queue.fetch(0) is None
            waiting = asyncio.create_task(queue.fetch(2.0))
            await queue.depth()
            slept[0] = 10.0
            submission = await queue.put(b"x", job_id="a")
            assert await waiting is None
            assert submission == (await fetched(queue, 15.0)).submission

    asyncio.run(main())
