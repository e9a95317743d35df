"""When claims lapse, and that nothing is held long enough for the broker to mind."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from runner.errors import LeaseLost
from runner.job import Note, Verdict
from tests.adapters.queues.rabbit_foreign import TYPES, foreigner, opened
from tests.conformance.queue_harness import BOX, OTHER_BOX, acknowledge, fetched
from tests.conformance.rabbit_harness import RabbitHost, rabbit_host

pytestmark = pytest.mark.broker

NOTE = Note(attempts=1, boxes=("box-1",))
TIMEOUT_S = 10.0
"""So long the node under test lets a delivery be held."""


@pytest.fixture
def host() -> RabbitHost:
    return rabbit_host()


@pytest.fixture(params=TYPES)
def queue_type(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_waiting_box_has_a_lapsed_claim_within_a_second(host: RabbitHost, queue_type: str) -> None:
    async def main() -> None:
        clock = asyncio.get_running_loop().time
        at = partial(opened, host, lease_s=1.5, queue_type=queue_type)
        async with at() as queue, at(OTHER_BOX) as other:
            submission = await queue.put(b"job", job_id="a")
            await queue.settle((await fetched(queue)).token, Verdict.RETRY, after_s=0, note=NOTE, reason="")
            waiting = asyncio.create_task(other.fetch(0.2))
            assert await waiting is not None
        async with at() as queue:
            began = clock()
            again = await fetched(queue, 10)
            assert (submission, NOTE) == (again.submission, again.note)
            assert clock() - began < 1.5 + 1.0

    asyncio.run(main())


def test_a_claim_of_another_lease_is_renewed_and_settled(host: RabbitHost) -> None:
    """Its queue has the lease in its name; the credential file may say another one after a restart."""

    async def main() -> None:
        async with opened(host, lease_s=4.0) as queue:
            for name in ("a", "b"):
                await queue.put(name.encode(), job_id=name)
            held = [await fetched(queue) for _ in range(2)]
        async with opened(host, lease_s=30.0) as queue:
            await asyncio.gather(*(queue.renew(delivery.token) for delivery in held))
            await asyncio.sleep(4.5)
            await queue.renew(held[0].token)
            for delivery in held:
                await acknowledge(queue, delivery)
            assert await queue.fetch(0) is None

    asyncio.run(main())


def test_a_claim_is_its_boxes(host: RabbitHost) -> None:
    async def main() -> None:
        async with opened(host) as queue, opened(host, OTHER_BOX) as other:
            await queue.put(b"x", job_id="a")
            delivery = await fetched(queue)
            with pytest.raises(LeaseLost):
                await other.renew(delivery.token)
            await acknowledge(queue, delivery)

    asyncio.run(main())


def test_a_client_has_claims_of_its_own(host: RabbitHost) -> None:
    async def main() -> None:
        async with opened(host, "") as client:
            await client.put(b"x", job_id="a")
            delivery = await fetched(client)
            await client.settle(delivery.token, Verdict.RELEASE, after_s=0, note=delivery.note, reason="")
        async with opened(host, BOX) as queue:
            await acknowledge(queue, await fetched(queue))

    asyncio.run(main())


@pytest.mark.slow
def test_a_job_outlasts_the_brokers_patience_with_deliveries(host: RabbitHost, queue_type: str) -> None:
    """The control holds one as a plain consumer does, and loses it."""

    async def main() -> None:
        guest = host.as_user("nobody", configure="^$")
        async with foreigner(host) as other:
            await other.declare("train", x_queue_type=queue_type)
            await other.declare("held", x_queue_type=queue_type)
            await other.put(b"job")
            await other.put(b"control", queue="held")
        async with (
            opened(host, lease_s=9.0, queue_type=queue_type) as queue,
            opened(guest, lease_s=9.0, name="held") as control,
        ):
            delivery, held = await fetched(queue), await fetched(control)
            waiting = asyncio.create_task(queue.fetch(TIMEOUT_S + 7))
            for _ in range(6):
                await asyncio.sleep(3.0)
                await queue.renew(delivery.token)
            with pytest.raises(LeaseLost):
                await control.renew(held.token)
            assert await waiting is None
            await acknowledge(queue, delivery)
            assert (0, 1) == (await queue.depth(), await control.depth())

    asyncio.run(main())
