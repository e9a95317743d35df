"""
Each service by its bare client library, as short as its own documentation has it: put, take, acknowledge.

The benchmark puts with these, and the bare consumer takes with them in a process of its own. The folder has no library;
there a message is one that our own client put, and taking it is a listing and a rename.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from adapters.queues.folder import FolderBroker
from adapters.watch import Watch
from bench.peers import AT_ONCE

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue, AbstractRobustConnection

LOOK_AGAIN_S = 0.25
BLOCK_S = 20
BARE_DATABASE = 10
GROUP = "bare"
SQS_KEYS = {"aws_access_key_id": "112233445566", "aws_secret_access_key": "made-up", "region_name": "us-east-1"}


class Place(msgspec.Struct, frozen=True):
    """Where a queue is: the kind of service, its URL or directory, the queue's name."""

    kind: str
    url: str
    queue: str


class Taken(msgspec.Struct, frozen=True):
    """A message, and what it is acknowledged by."""

    body: bytes
    receipt: Any


class BareClient(Protocol):
    """One queue. ``take`` and ``acknowledge`` may be called by several tasks at once."""

    async def put(self, body: bytes) -> None:
        """Add a message; return once the service has it."""
        ...

    async def take(self) -> Taken:
        """Wait for a message."""
        ...

    async def acknowledge(self, taken: Taken) -> None:
        """Say that a message is done."""
        ...

    async def close(self) -> None:
        """Close what is open."""
        ...


class BareFolder:
    """A directory in which each file is a message; taking one is a rename, and arrivals are told by the kernel."""

    def __init__(self, place: Place) -> None:
        self._place, self._root = place, os.path.join(place.url, place.queue)
        self._broker = FolderBroker(self._root, box_id="", now=time.time, lease_s=60, single=True)
        self._names: deque[str] = deque()
        self._looking = asyncio.Lock()

    async def open(self) -> BareFolder:
        self._queue = await self._broker.open(self._place.queue)
        self._watch = Watch(os.path.join(self._root, "ready"))
        return self

    async def put(self, body: bytes) -> None:
        await self._queue.put(body, job_id="")

    async def take(self) -> Taken:
        while True:
            name = await self._next()
            path = os.path.join(self._root, "claimed", name)
            try:
                os.rename(os.path.join(self._root, "ready", name), path)
            except FileNotFoundError:
                continue
            return Taken(read_whole(path), path)

    async def acknowledge(self, taken: Taken) -> None:
        os.unlink(str(taken.receipt))

    async def close(self) -> None:
        self._watch.close()
        await self._queue.close()
        await self._broker.close()

    async def _next(self) -> str:
        async with self._looking:
            while not self._names:
                self._names.extend(sorted(os.listdir(os.path.join(self._root, "ready"))))
                if not self._names:
                    await asyncio.to_thread(self._watch.wait, LOOK_AGAIN_S)
            return self._names.popleft()


class BareRedis:
    """A stream with a consumer group."""

    def __init__(self, place: Place) -> None:
        import redis.asyncio

        self._stream = place.queue
        # Its answers have types that nobody could use.
        self._redis: Any = redis.asyncio.Redis.from_url(f"{place.url}/{BARE_DATABASE}")

    async def open(self) -> BareRedis:
        import redis.exceptions

        with suppress(redis.exceptions.ResponseError):  # the other side has made it
            await self._redis.xgroup_create(self._stream, GROUP, id="0", mkstream=True)
        return self

    async def put(self, body: bytes) -> None:
        await self._redis.xadd(self._stream, {"body": body})

    async def take(self) -> Taken:
        while True:
            found = await self._redis.xreadgroup(GROUP, GROUP, {self._stream: ">"}, count=1, block=2_000)
            for _, messages in found:
                for message, fields in messages:
                    return Taken(fields[b"body"], message)

    async def acknowledge(self, taken: Taken) -> None:
        await self._redis.xack(self._stream, GROUP, taken.receipt)

    async def close(self) -> None:
        await self._redis.aclose()


class BareRabbit:
    """A durable quorum queue, with as many messages unacknowledged as jobs run; publishers wait for confirms."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._messages: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        self._consumes = False

    async def open(self) -> BareRabbit:
        import aio_pika

        self._connection: AbstractRobustConnection = await aio_pika.connect_robust(self._place.url)
        self._channel: AbstractChannel = await self._connection.channel(publisher_confirms=True)
        await self._channel.set_qos(prefetch_count=AT_ONCE)
        self._queue: AbstractQueue = await self._channel.declare_queue(
            self._place.queue, durable=True, arguments={"x-queue-type": "quorum"}
        )
        return self

    async def put(self, body: bytes) -> None:
        import aio_pika

        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await self._channel.default_exchange.publish(message, routing_key=self._place.queue)

    async def take(self) -> Taken:
        if not self._consumes:
            self._consumes = True
            await self._queue.consume(self._messages.put)
        message = await self._messages.get()
        return Taken(message.body, message)

    async def acknowledge(self, taken: Taken) -> None:
        await taken.receipt.ack()

    async def close(self) -> None:
        await self._connection.close()


class BareSqs:
    """A standard queue, polled as long as the service lets one."""

    def __init__(self, place: Place) -> None:
        from aiobotocore.session import get_session

        self._place = place
        self._opening = get_session().create_client("sqs", endpoint_url=place.url, **SQS_KEYS)

    async def open(self) -> BareSqs:
        self._sqs: Any = await self._opening.__aenter__()
        self._url = (await self._sqs.create_queue(QueueName=self._place.queue))["QueueUrl"]
        return self

    async def put(self, body: bytes) -> None:
        await self._sqs.send_message(QueueUrl=self._url, MessageBody=body.decode())

    async def take(self) -> Taken:
        while True:
            found = await self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=1, WaitTimeSeconds=BLOCK_S)
            for message in found.get("Messages", ()):
                return Taken(message["Body"].encode(), message["ReceiptHandle"])

    async def acknowledge(self, taken: Taken) -> None:
        await self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=str(taken.receipt))

    async def close(self) -> None:
        await self._opening.__aexit__(None, None, None)


def read_whole(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


async def open_client(place: Place) -> BareClient:
    """Open a queue; made where it is not there."""
    match place.kind:
        case "folder":
            return await BareFolder(place).open()
        case "redis":
            return await BareRedis(place).open()
        case "rabbitmq":
            return await BareRabbit(place).open()
        case _:
            return await BareSqs(place).open()
