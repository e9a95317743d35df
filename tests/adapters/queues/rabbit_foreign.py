"""A program of somebody else's at the same broker: its queues have their own flags, and it writes raw bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
import pytest
from aiormq.abc import AbstractChannel
from aiormq.connection import Connection
from pamqp.common import FieldTable

from adapters.queues.rabbitmq import RabbitBroker, RabbitQueue
from adapters.queues.rabbitmq_fields import Properties, encode_properties
from adapters.queues.rabbitmq_session import Session
from adapters.queues.rabbitmq_transport import Transport
from runner.credential import Credential
from runner.errors import RunnerError
from tests.conformance.queue_harness import BOX, START_AT
from tests.conformance.rabbit_harness import RabbitHost

QUEUE = "train"
TYPES = ("quorum", "classic")


class Foreigner:
    """One channel in transactions, over which nothing is changed."""

    def __init__(self, channel: AbstractChannel, session: Session) -> None:
        self._channel, self._session = channel, session

    async def declare(self, name: str = QUEUE, *, durable: bool = True, **arguments: object) -> None:
        table = cast("FieldTable", {key.replace("_", "-"): value for key, value in arguments.items()})
        await self._channel.queue_declare(name, durable=durable, arguments=table)

    async def put(self, body: bytes, properties: Properties = Properties(), queue: str = QUEUE) -> None:  # noqa: B008
        self._session.publish(queue, encode_properties(properties), body)
        assert await self._session.commit()

    async def take(self, queue: str = QUEUE, wait_s: float = 5.0) -> tuple[bytes, Properties]:
        """Take one message out of a queue, within a time."""
        async with asyncio.timeout(wait_s):
            while (message := await self._session.get(queue)) is None:
                await asyncio.sleep(0.02)
        self._session.settle(message.tag)
        await self._session.commit()
        return message.body, message.properties

    async def count(self, queue: str) -> int:
        return (await self._channel.queue_declare(queue, passive=True)).message_count or 0


@asynccontextmanager
async def foreigner(host: RabbitHost) -> AsyncIterator[Foreigner]:
    """Connect by the client library alone."""
    transport = Transport(None)
    connection = Connection(host.url_with_secret(), transport_factory=transport)
    connection.vhost = host.vhost
    await connection.connect()
    try:
        channel = await connection.channel(publisher_confirms=False)
        session = Session(channel, connection, transport.told.returned)
        await session.begin(0)
        yield Foreigner(channel, session)
    finally:
        await connection.close()


@asynccontextmanager
async def opened(
    host: RabbitHost, box: str = BOX, *, name: str = QUEUE, lease_s: float = 60.0, **how: Any
) -> AsyncIterator[RabbitQueue]:
    """Open one queue as the runner of a box."""
    broker = RabbitBroker(host.credential(lease_s, **how), box_id=box, now=lambda: START_AT)
    try:
        queue = await broker.open(name)
        try:
            yield queue
        finally:
            await queue.close()
    finally:
        await broker.close()


def arguments_of(host: RabbitHost, queue: str) -> Mapping[str, object]:
    """Return what a queue was declared with, as the broker tells."""
    found: dict[str, Any] = msgspec.json.decode(host.ask("GET", f"queues/{host.path}/{queue}"))
    return {**found["arguments"], "durable": found["durable"]}


def broker(credential: Credential, box: str = BOX) -> RabbitBroker:
    return RabbitBroker(credential, box_id=box, now=lambda: START_AT)


async def refusal(credential: Credential) -> RunnerError:
    """Return why a queue cannot be opened."""
    made = broker(credential)
    try:
        with pytest.raises(RunnerError) as caught:
            await made.open(QUEUE)
        return caught.value
    finally:
        await made.close()
