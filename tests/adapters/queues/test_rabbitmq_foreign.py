"""Queues and messages of other programs: served as they are, whatever flags and headers they have."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from adapters.queues.rabbitmq_envelope import HEADER
from adapters.queues.rabbitmq_fields import Properties, encode_array, encode_table, long_text, short_text
from runner.errors import BadInput
from runner.job import Note, Verdict
from runner.ports import Queue
from tests.adapters.queues.rabbit_foreign import QUEUE, TYPES, arguments_of, foreigner, opened
from tests.conformance.queue_harness import OTHER_BOX, acknowledge, fetched
from tests.conformance.rabbit_harness import RabbitHost, rabbit_host

pytestmark = pytest.mark.broker

LEASE_S = 1.0
ODD = Properties(
    {
        "content_type": short_text("application/x-ünknown"),
        "content_encoding": b"\x03\xff\x00\xfe",
        "priority": b"\x07",
        "correlation_id": short_text("c"),
        "reply_to": short_text("answers"),
        "message_id": short_text("id-1"),
        "timestamp": (1_600_000_000).to_bytes(8, "big"),
        "type": short_text(""),
        "app_id": short_text("studio"),
    },
    {
        b"double": b"d\x40\x09\x21\xfb\x54\x44\x2d\x18",
        b"wide": b"l\x00\x00\x00\x00\x00\x00\x00\x05",
        b"bytes": long_text("") + b"",
        b"not text": b"S\x00\x00\x00\x02\xff\xfe",
        b"table": b"F" + encode_table({b"deep": encode_array([b"V", b"t\x01"])}),
    },
)


@pytest.fixture
def host() -> RabbitHost:
    return rabbit_host()


@pytest.fixture(params=TYPES)
def queue_type(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def go_round(queue: Queue, verdict: Verdict) -> None:
    """Claim, renew and settle one message."""
    delivery = await fetched(queue, 5)
    await queue.renew(delivery.token)
    await queue.settle(delivery.token, verdict, after_s=0, note=Note(attempts=1), reason="why")


def test_a_queue_keeps_the_flags_that_it_has(host: RabbitHost) -> None:
    """Declaring it with others would be refused, and close the channel."""

    async def main() -> None:
        async with foreigner(host) as other:
            await other.declare(durable=False, x_max_length=50, x_message_ttl=3_600_000)
            before = arguments_of(host, QUEUE)
            async with opened(host, queue_type="quorum") as queue:
                assert "" == queue.warning
                await other.put(b"job")
                await go_round(queue, Verdict.RETRY)
                delivery = await fetched(queue)
                assert (b"job", Note(attempts=1)) == (delivery.body, delivery.note)
                await acknowledge(queue, delivery)
            assert before == arguments_of(host, QUEUE)

    asyncio.run(main())


@pytest.mark.parametrize("verdict", [Verdict.RETRY, Verdict.REJECT])
def test_bytes_properties_and_headers_come_back_as_they_were(
    host: RabbitHost, queue_type: str, verdict: Verdict
) -> None:
    """Through a claim, its renewal, a lapse, another claim, and what it is settled with."""

    async def main() -> None:
        async with foreigner(host) as other:
            await other.declare(x_queue_type=queue_type)
            await other.put(b"\x00\xff", ODD)
            async with opened(host, lease_s=LEASE_S, queue_type=queue_type) as queue:
                delivery = await fetched(queue)
                assert ("id-1", 1_600_000_000.0) == (delivery.submission, delivery.enqueued_at)
                await queue.renew(delivery.token)
            async with opened(host, OTHER_BOX, lease_s=LEASE_S, queue_type=queue_type) as queue:
                await go_round(queue, verdict)
                body, found = await other.take(QUEUE if verdict is Verdict.RETRY else f"{QUEUE}.dead")
            of_others = {HEADER, b"x-delivery-count"}  # the broker counts as it delivers
            headers = {name: raw for name, raw in found.headers.items() if name not in of_others}
            assert (b"\x00\xff", ODD.headers) == (body, headers)
            assert {**ODD.fields, "delivery_mode": b"\x02"} == found.fields

    asyncio.run(main())


def test_a_message_without_a_name_gets_one_and_keeps_it(host: RabbitHost, queue_type: str) -> None:
    """Two with equal bytes are two."""

    async def main() -> None:
        async with foreigner(host) as other, opened(host, lease_s=LEASE_S, queue_type=queue_type) as queue:
            for _ in range(2):
                await other.put(b"same")
            first, second = await fetched(queue), await fetched(queue)
            assert first.submission != second.submission
            await acknowledge(queue, second)
            async with opened(host, OTHER_BOX, lease_s=LEASE_S, queue_type=queue_type) as another:
                again = await fetched(another, 5)
                assert (first.submission, first.enqueued_at) == (again.submission, again.enqueued_at)
                await another.settle(again.token, Verdict.RETRY, after_s=0, note=Note(), reason="")
                assert "message_id" not in (await other.take())[1].fields

    asyncio.run(main())


def test_a_user_a_time_to_live_and_copies_do_not_get_in_the_way(host: RabbitHost, queue_type: str) -> None:
    """The broker refuses another's user id, lets what has a time to live vanish, and copies by the header CC."""

    async def main() -> None:
        sender = host.as_user("ada", configure=".*")
        async with foreigner(host) as mine, foreigner(sender) as other:
            await mine.declare("copies")
            await mine.declare(x_queue_type=queue_type)
            fields = {"user_id": short_text(sender.username), "expiration": short_text("1500")}
            await other.put(b"job", Properties(fields, {b"CC": encode_array([long_text("copies")])}))
            async with opened(host, lease_s=30.0, queue_type=queue_type) as queue:
                assert await mine.count("copies") == 1
                delivery = await fetched(queue)
                await asyncio.sleep(2.0)
                await queue.renew(delivery.token)
                await queue.settle(delivery.token, Verdict.RETRY, after_s=0, note=Note(), reason="")
                assert b"job" == (await fetched(queue)).body
            assert await mine.count("copies") == 0, "its time to live is over, and no other came"

    asyncio.run(main())


def test_claims_do_not_use_up_the_deliveries_of_a_queue(host: RabbitHost) -> None:
    """The broker gives a message up that it delivered too often; ours is a new one at each turn."""

    async def main() -> None:
        async with foreigner(host) as other:
            await other.declare(x_queue_type="quorum", x_delivery_limit=2)
            await other.put(b"job")
            async with opened(host) as queue:
                for _ in range(8):
                    await go_round(queue, Verdict.RELEASE)
                await other.put(b"settled")
                await go_round(queue, Verdict.RELEASE)
                assert [b"settled", b"job"] == [(await fetched(queue)).body for _ in range(2)]

    asyncio.run(main())


def test_looking_at_claims_and_dead_letters_does_not_use_them_up(host: RabbitHost) -> None:
    async def main() -> None:
        async with opened(host) as queue:
            for _ in range(3):
                await queue.put(b"x", job_id="j")
            held = [await fetched(queue) for _ in range(3)]
            for _ in range(25):
                await queue.renew(held[2].token)
            for delivery in held:
                await queue.settle(delivery.token, Verdict.REJECT, after_s=0, note=Note(), reason="")
            for _ in range(25):
                assert 3 == len(await queue.dead())

    asyncio.run(main())


def test_a_queue_with_dead_letters_of_its_own_keeps_them_apart(host: RabbitHost, queue_type: str) -> None:
    """What is rejected by a box has its reason beside it in our queue; what the broker gives up goes its own way."""

    async def main() -> None:
        async with foreigner(host) as other:
            await other.declare("theirs")
            await other.declare(x_queue_type=queue_type, x_dead_letter_exchange="", x_dead_letter_routing_key="theirs")
            await other.put(b"job")
            async with opened(host, queue_type=queue_type) as queue:
                await go_round(queue, Verdict.REJECT)
                assert ["why"] == [row.reason for row in await queue.dead()]
            assert 0 == await other.count("theirs")

    asyncio.run(main())


def test_dead_letters_that_somebody_else_put_there_are_listed(host: RabbitHost, queue_type: str) -> None:
    async def main() -> None:
        async with foreigner(host) as other, opened(host, queue_type=queue_type) as queue:
            await other.declare(f"{QUEUE}.dead", x_queue_type=queue_type)
            await other.put(
                b"theirs", Properties(headers={b"x-first-death-reason": long_text("maxlen")}), f"{QUEUE}.dead"
            )
            (row,) = await queue.dead()
            assert ("maxlen", b"theirs") == (row.reason, row.body)
            assert [row] == list(await queue.dead()), "under the same name"
            assert await queue.retry_dead(row.submission)
            assert b"theirs" == (await fetched(queue)).body

    asyncio.run(main())


def test_a_message_that_is_too_large_for_the_broker_is_bad_input(host: RabbitHost) -> None:
    async def main() -> None:
        async with opened(host) as queue:
            with pytest.raises(BadInput, match="larger than"):
                await queue.put(b"x" * (135 << 20), job_id="a")
            await queue.put(b"x", job_id="b")
            assert b"x" == (await fetched(queue)).body
            with pytest.raises(BadInput, match="too long"):
                await queue.put(b"x", job_id="a" * 9000)

    asyncio.run(main())


def test_a_claim_outlives_that_somebody_deletes_the_queue_for_claims(host: RabbitHost, queue_type: str) -> None:
    """It is made anew with the next message; what lay in it is lost with it, and nobody else's."""

    async def main() -> None:
        async with opened(host, queue_type=queue_type) as queue:
            await queue.put(b"first", job_id="a")
            first = await fetched(queue)
            await acknowledge(queue, first)
            host.ask("DELETE", f"queues/{host.path}/{claimed_name(host)}")
            await queue.put(b"second", job_id="b")
            second = await fetched(queue)
            await queue.renew(second.token)
            await acknowledge(queue, second)

    asyncio.run(main())


def claimed_name(host: RabbitHost) -> str:
    rows = msgspec.json.decode(host.ask("GET", f"queues/{host.path}?columns=name"))
    (name,) = [row["name"] for row in rows if ".claimed." in row["name"]]
    return str(name)
