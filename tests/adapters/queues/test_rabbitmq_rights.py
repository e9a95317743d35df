"""Who may do what: users without rights, a management API that is closed, wrong passwords, TLS; and changed secrets."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from runner.errors import ConfigurationError, LeaseLost
from runner.job import Note, Verdict
from tests.adapters.queues.rabbit_foreign import QUEUE, TYPES, broker, foreigner, opened, refusal
from tests.conformance.queue_harness import OTHER_BOX, acknowledge, fetched
from tests.conformance.rabbit_harness import RabbitHost, rabbit_host

pytestmark = pytest.mark.broker

NOTE = Note(attempts=1, last_reason="failed")


@pytest.fixture
def host() -> RabbitHost:
    return rabbit_host()


@pytest.fixture(params=TYPES)
def queue_type(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def guest(host: RabbitHost) -> RabbitHost:
    """Somebody who may make no queue."""
    return host.as_user("nobody", configure="^$")


# Without the right to make queues


def test_who_may_not_make_queues_is_warned_and_served(host: RabbitHost, guest: RabbitHost, queue_type: str) -> None:
    async def main() -> None:
        async with foreigner(host) as other, opened(guest) as queue:
            assert "may run twice" in queue.warning
            assert queue.ends_claims
            assert "nobody" in queue.warning
            assert "configure" in queue.warning
            await other.put(b"job")
            delivery = await fetched(queue)
            await queue.renew(delivery.token)
            await queue.settle(delivery.token, Verdict.RETRY, after_s=0, note=NOTE, reason="failed")
            again = await fetched(queue)
            assert (NOTE, delivery.submission) == (again.note, again.submission)
            await acknowledge(queue, again)
            await acknowledge(queue, again)
            assert (None, 0) == (await queue.fetch(0), await queue.depth())
            with pytest.raises(LeaseLost):
                await queue.renew(again.token)

    async def prepared() -> None:
        async with foreigner(host) as other:
            await other.declare(x_queue_type=queue_type)
        await main()

    asyncio.run(prepared())


def test_a_held_delivery_waits_here_for_its_retry(host: RabbitHost, guest: RabbitHost) -> None:
    async def main() -> None:
        async with foreigner(host) as other:
            await other.declare()
            await other.put(b"job")
            async with opened(guest) as queue:
                delivery = await fetched(queue)
                await queue.settle(delivery.token, Verdict.RETRY, after_s=0.5, note=NOTE, reason="failed")
                assert await queue.fetch(0) is None
                again = await fetched(queue, 5)
                assert (b"job", NOTE) == (again.body, again.note)

    asyncio.run(main())


def test_a_held_delivery_is_lost_with_its_connection(host: RabbitHost, guest: RabbitHost) -> None:
    """The broker hands it to another box at once, under the same name."""

    async def main() -> None:
        async with foreigner(host) as other:
            await other.declare()
            await other.put(b"job")
            async with opened(guest) as queue, opened(guest, OTHER_BOX) as another:
                first = await fetched(queue)
                close_connections(host, guest.username)
                second = await fetched(another, 10)
                assert first.submission == second.submission
                for call in (queue.renew(first.token), acknowledge(queue, first)):
                    with pytest.raises(LeaseLost):
                        await call
                await acknowledge(another, second)

    asyncio.run(main())


def test_what_is_refused_without_rights_goes_where_the_queue_sends_it(host: RabbitHost, guest: RabbitHost) -> None:
    async def main() -> None:
        async with foreigner(host) as other:
            await other.declare("theirs")
            await other.declare(x_dead_letter_exchange="", x_dead_letter_routing_key="theirs")
            for name in (b"first", b"second"):
                await other.put(name)
            async with opened(guest) as queue:
                first = await fetched(queue)
                await queue.settle(first.token, Verdict.REJECT, after_s=0, note=NOTE, reason="why")
                assert b"first" == (await other.take("theirs"))[0]
                await other.declare(f"{QUEUE}.dead")
                second = await fetched(queue)
                await queue.settle(second.token, Verdict.REJECT, after_s=0, note=NOTE, reason="why")
                assert [("why", b"second")] == [(row.reason, row.body) for row in await queue.dead()]

    asyncio.run(main())


def test_queues_that_somebody_made_beforehand_are_used(host: RabbitHost, guest: RabbitHost) -> None:
    """An administrator may give a box its queues instead of the right to make them."""

    async def main() -> None:
        async with opened(host) as queue:
            await queue.put(b"job", job_id="a")
            delivery = await fetched(queue)
            await queue.settle(delivery.token, Verdict.RELEASE, after_s=0.5, note=NOTE, reason="")
        async with opened(guest) as queue:
            assert "" == queue.warning
            assert not queue.ends_claims
            delivery = await fetched(queue, 5)
            await queue.settle(delivery.token, Verdict.RETRY, after_s=0.5, note=NOTE, reason="")
            await fetched(queue, 5)

    asyncio.run(main())


def test_a_queue_that_is_not_there_and_cannot_be_made_is_said_so(guest: RabbitHost) -> None:
    error = asyncio.run(refusal(guest.credential()))
    assert isinstance(error, ConfigurationError)
    assert f"make queue {QUEUE}" in str(error)


# Listing


def test_queues_of_ours_answers_streams_and_private_ones_are_not_listed(host: RabbitHost) -> None:
    async def main() -> None:
        async with foreigner(host) as other, opened(host) as queue:
            for name in ("rmq_a", "rmq_a_response", "x b/c"):
                await other.declare(name)
            await other.declare("flow", x_queue_type="stream")
            await queue.put(b"x", job_id="a")
            for verdict in (Verdict.RETRY, Verdict.REJECT):
                delivery = await fetched(queue, 5)
                await queue.settle(delivery.token, verdict, after_s=0.1, note=NOTE, reason="")
            made = broker(host.credential())
            assert ("rmq_a", QUEUE, "x b/c") == await made.queues()
            assert ".claimed." in "".join(row["name"] for row in rows(host))
            await made.close()

    asyncio.run(main())


def test_more_queues_than_one_answer_holds_are_listed(host: RabbitHost) -> None:
    async def main() -> None:
        async with foreigner(host) as other:
            for number in range(520):
                await other.declare(f"q{number:03}", x_queue_type="classic")
        assert 520 == len(await broker(host.credential()).queues())

    asyncio.run(main())


@pytest.mark.parametrize("management", ["http://127.0.0.1:9", ""])
def test_a_closed_management_api_asks_for_the_queues_name(host: RabbitHost, management: str) -> None:
    async def main() -> None:
        user = host.as_user("plain", configure=".*")
        address = management or host.management
        with pytest.raises(ConfigurationError, match=r"\?queue="):
            await broker(user.credential(management=address)).queues()
        assert ("train",) == await broker(user.credential(query="?queue=train", management=address)).queues()

    asyncio.run(main())


def rows(host: RabbitHost) -> list[dict[str, str]]:
    """Return what the broker tells of all queues."""
    found: list[dict[str, str]] = msgspec.json.decode(host.ask("GET", f"queues/{host.path}?columns=name"))
    return found


def close_connections(host: RabbitHost, username: str) -> None:
    """End every connection of a user, as the broker's operator can."""
    host.ask("DELETE", f"connections/username/{username}")


@pytest.mark.parametrize(
    ("rights", "permission"),
    [({"configure": "^$"}, "configure it"), ({"configure": ".*", "write": "^$"}, "write to it")],
)
def test_the_permission_that_is_missing_is_named(host: RabbitHost, rights: dict[str, str], permission: str) -> None:
    """The broker says only that access was refused."""

    async def main() -> None:
        made = broker(host.as_user("nobody", **rights).credential())
        with pytest.raises(ConfigurationError, match=f"give the user the permission to {permission}"):
            await (await made.open(QUEUE)).put(b"x", job_id="a")
        await made.close()

    asyncio.run(main())
