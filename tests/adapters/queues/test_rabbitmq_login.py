"""Logging in: wrong passwords, virtual hosts that are not there, names that cannot be; and changed secrets."""

from __future__ import annotations

import asyncio
import logging

import pytest

from runner.credential import Credential
from runner.errors import ConfigurationError, Unavailable
from runner.secret import Secret
from tests.adapters.queues.rabbit_foreign import QUEUE, broker, foreigner, refusal
from tests.conformance.queue_harness import acknowledge, fetched
from tests.conformance.rabbit_harness import RabbitHost, rabbit_host

pytestmark = pytest.mark.broker


@pytest.fixture
def host() -> RabbitHost:
    return rabbit_host()


# Logging in


def test_a_wrong_password_is_told_without_it(host: RabbitHost, caplog: pytest.LogCaptureFixture) -> None:
    credential = Credential(
        "rabbitmq", host.url(), secrets={"username": Secret(host.username), "password": Secret("Tr0ub4dor&3")}
    )
    with caplog.at_level(logging.DEBUG):
        error = asyncio.run(refusal(credential))
    assert isinstance(error, ConfigurationError)
    assert "password" in str(error)
    shown = caplog.text + str(error) + repr(error.__cause__)
    assert "Tr0ub4dor" not in shown


@pytest.mark.parametrize("path", ["/no-such-host", "/test%20other"])
def test_a_virtual_host_that_is_not_there_is_told(host: RabbitHost, path: str) -> None:
    url = host.url().rpartition("/")[0] + path
    secrets = {"username": Secret(host.username), "password": Secret(host.password)}
    error = asyncio.run(refusal(Credential("rabbitmq", url, secrets=secrets)))
    assert isinstance(error, ConfigurationError)
    assert "virtual host" in str(error)


def test_a_broker_that_is_away_is_unavailable() -> None:
    error = asyncio.run(refusal(Credential("rabbitmq", "amqp://127.0.0.1:9/")))
    assert isinstance(error, Unavailable)
    assert "amqp://127.0.0.1:9/" in str(error)


@pytest.mark.parametrize("url", ["amqp://", "http://host/", "amqp:host"])
def test_what_is_no_url_is_told(url: str) -> None:
    with pytest.raises(ConfigurationError, match="amqp://host:5672"):
        broker(Credential("rabbitmq", url))


# Changing the secret


@pytest.mark.parametrize("may_make_queues", [True, False])
def test_a_changed_secret_is_used_from_the_next_call_on(host: RabbitHost, *, may_make_queues: bool) -> None:
    """What is held stays held: with the old connection where it hangs on that."""

    async def main() -> None:
        user = host.as_user("box", configure=".*" if may_make_queues else "^$")
        async with foreigner(host) as other:
            await other.declare()
            made = broker(user.credential())
            queue = await made.open(QUEUE)
            await other.put(b"before")
            before = await fetched(queue)
            waiting = asyncio.create_task(queue.fetch(20))
            await queue.depth()
            host.ask("PUT", f"users/{user.username}", password="new-word", tags="")
            secrets = {"username": Secret(user.username), "password": Secret("new-word")}
            credential = user.credential()
            await made.change(Credential("rabbitmq", credential.url, secrets=secrets, lease=credential.lease))
            await queue.renew(before.token)
            await other.put(b"under way")
            under_way = await waiting
            assert under_way is not None
            await other.put(b"after")
            after = await fetched(queue, 5)
            for delivery in (before, under_way, after):
                await acknowledge(queue, delivery)
            assert 0 == await queue.depth()
            await queue.close()
            await made.close()

    asyncio.run(main())


def test_a_wrong_new_secret_is_told_by_the_next_call(host: RabbitHost) -> None:
    async def main() -> None:
        user = host.as_user("box", configure=".*")
        made = broker(user.credential())
        queue = await made.open(QUEUE)
        await queue.put(b"x", job_id="a")
        delivery = await fetched(queue)
        wrong = {"username": Secret(user.username), "password": Secret("wrong")}
        right = user.credential()
        await made.change(Credential("rabbitmq", right.url, secrets=wrong, lease=right.lease))
        with pytest.raises(ConfigurationError, match="password"):
            await queue.renew(delivery.token)
        await made.change(right)
        await acknowledge(queue, delivery)
        await made.close()

    asyncio.run(main())


@pytest.mark.parametrize("name", ["", "ü", "q" * 181, "train.dead", "train.claimed.box.60", "a\nb"])
def test_a_name_that_cannot_be_served_is_told(host: RabbitHost, name: str) -> None:
    async def main() -> None:
        made = broker(host.credential())
        with pytest.raises(ConfigurationError, match="queue"):
            await made.open(name)
        await made.close()

    asyncio.run(main())


def test_ssl_is_asked_for_by_the_url(host: RabbitHost) -> None:
    """A plain server is no TLS server."""
    url = host.url().replace("amqp://", "amqps://")
    error = asyncio.run(refusal(Credential("rabbitmq", url)))
    assert isinstance(error, (ConfigurationError, Unavailable))


@pytest.mark.parametrize("named", ["nosuch.invalid:5672", "127.0.0.1:1"])
def test_a_broker_that_is_not_there_is_told_without_numbers(named: str) -> None:
    async def main() -> None:
        made = broker(Credential("rabbitmq", f"amqp://{named}/"))
        with pytest.raises(Unavailable) as raised:
            await made.open(QUEUE)
        why = "nothing listens there" if named.endswith(":1") else "there is no host of this name"
        assert f"at amqp://{named}/: {why}: see whether" in str(raised.value)
        await made.close()

    asyncio.run(main())


def test_a_port_without_tls_is_not_taken_for_a_wrong_certificate(host: RabbitHost) -> None:
    """Nobody looks for an authority that way."""

    async def main() -> None:
        url = f"amqps://127.0.0.1:{host.port}/"
        made = broker(Credential("rabbitmq", url))
        with pytest.raises(Unavailable, match="what listens there speaks no TLS"):
            await made.open(QUEUE)
        await made.close()

    asyncio.run(main())
