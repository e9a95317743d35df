"""
One channel in transactions: messages are taken, others are put, and all of it happens at ``commit`` or not at all.

A session that failed is not used again: the broker closes its channel or is told to, and gives back what was taken.
"""

from __future__ import annotations

import asyncio
from typing import cast

import pamqp.frame
from aiormq.abc import AbstractChannel, AbstractConnection, ChannelFrame, DeliveredMessage
from aiormq.channel import Channel
from pamqp import commands

from adapters.queues.rabbitmq_envelope import Message, read_message
from adapters.queues.rabbitmq_transport import RAW, content_frames
from adapters.queues.rabbitmq_trouble import QueueMissing
from runner.errors import Unavailable

CALL_S = 10.0
CLOSE_S = 2.0
PROPERTIES_OVERHEAD = 64


class Session:
    """One channel. One caller at a time."""

    def __init__(self, channel: AbstractChannel, connection: AbstractConnection, returned: set[int]) -> None:
        # The library's only kind of channel; what it calls its interface lacks the queue to write to.
        self._channel = cast("Channel", channel)
        self._connection, self._returned = connection, returned
        # Frames that go out with the next commit.
        self._staged: list[bytes] = []
        # Whether messages were taken that no commit has settled yet.
        self.took_any = False

    @property
    def room(self) -> int:
        """The bytes that the properties of one message may have."""
        return self._connection.connection_tune.frame_max - PROPERTIES_OVERHEAD

    @property
    def is_open(self) -> bool:
        return not self._channel.is_closed and not self._connection.is_closed

    @property
    def is_cut(self) -> bool:
        """Whether the connection broke, not only this channel."""
        return self._connection.is_closed or not self._connection.is_opened

    @property
    def was_stuck(self) -> bool:
        """Whether the connection was given up because nothing came any more."""
        return bool(getattr(self._connection, "is_connection_was_stuck", False))

    async def begin(self, prefetch: int) -> None:
        await self._channel.tx_select()
        if prefetch:
            await self._channel.basic_qos(prefetch_count=prefetch)

    async def get(self, queue: str) -> Message | None:
        """Take the first message; None where none waits."""
        async with asyncio.timeout(CALL_S):
            delivered = await self._channel.basic_get(queue)
        return self._taken(delivered)

    async def wait(self, queue: str, wait_s: float, stop: asyncio.Future[None]) -> Message | None:
        """Wait for one message as a consumer that gets one and no more; ``stop`` ends it early."""
        arrived: asyncio.Future[DeliveredMessage] = asyncio.get_running_loop().create_future()

        async def take(delivered: DeliveredMessage) -> None:
            arrived.set_result(delivered)

        self._channel.on_consumer_cancel_callbacks.add(lambda _: _fail(arrived, queue))
        async with asyncio.timeout(CALL_S):
            consumed = await self._channel.basic_consume(queue, take)
        closing = self._channel.closing
        await asyncio.wait({arrived, closing, stop}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        self._channel.on_consumer_cancel_callbacks.clear()
        if closing.done() and not arrived.done():
            raise Unavailable(f"wait at queue {queue}: the connection broke")
        await self._cancel(str(consumed.consumer_tag), waited=not arrived.done())
        return self._taken(arrived.result()) if arrived.done() else None

    async def _cancel(self, consumer: str, *, waited: bool) -> None:
        """End consuming; where one message is here, the broker sends no other before the next commit anyway."""
        async with asyncio.timeout(CALL_S):
            if waited:
                await self._channel.basic_cancel(consumer)
                await asyncio.sleep(0)  # one that came before the answer is handed over by a task of the library
            else:
                await self._channel.basic_cancel(consumer, nowait=True)

    def publish(self, queue: str, properties: bytes, body: bytes) -> None:
        """Put a message into a queue with the next commit."""
        number = self._channel.number
        method = commands.Basic.Publish(exchange="", routing_key=queue, mandatory=True)
        frame_max = self._connection.connection_tune.frame_max
        self._staged += [
            pamqp.frame.marshal(method, number),
            content_frames(number, properties, body, frame_max),
        ]

    def settle(self, tag: int) -> None:
        """Let go of a message that was taken, with the next commit."""
        self._stage(commands.Basic.Ack(delivery_tag=tag))

    def give_back(self, tag: int, *, all_before: bool = False) -> None:
        """Put a message that was taken where it was, with the next commit; its time to live runs on."""
        self._stage(commands.Basic.Nack(delivery_tag=tag, multiple=all_before, requeue=True))

    def refuse(self, tag: int) -> None:
        """Leave a message to whatever its queue does with refused ones, with the next commit."""
        self._stage(commands.Basic.Nack(delivery_tag=tag, requeue=False))

    async def commit(self) -> bool:
        """Do all of it; False where a message had no queue to go to, and is nowhere now."""
        payload, self._staged = b"".join(self._staged), []
        async with asyncio.timeout(CALL_S):
            if payload:
                await self._channel.write_queue.put(ChannelFrame(payload=payload, should_close=False))
            await self._channel.tx_commit()
        self.took_any = False
        routed = self._channel.number not in self._returned
        self._returned.discard(self._channel.number)
        return routed

    def abandon(self) -> None:
        """End it at once, also while it is cancelled: the broker gives back what was taken."""
        if not self.is_open:
            return
        close = commands.Channel.Close(reply_code=200, reply_text="", class_id=0, method_id=0)
        payload = pamqp.frame.marshal(close, self._channel.number)
        try:
            self._channel.write_queue.put_nowait(ChannelFrame(payload=payload, should_close=False))
        except asyncio.QueueFull:
            self._connection.create_task(self._channel.close())

    async def close(self) -> None:
        """End it in order."""
        if self.is_open:
            async with asyncio.timeout(CLOSE_S):
                await self._channel.close()

    def _stage(self, method: commands.Basic.Ack | commands.Basic.Nack) -> None:
        self._staged.append(pamqp.frame.marshal(method, self._channel.number))

    def _taken(self, delivered: DeliveredMessage) -> Message | None:
        if not delivered.delivery_tag:
            return None
        self.took_any = True
        headers = delivered.header.properties.headers or {}
        raw = cast("bytearray", headers.get(RAW, b""))  # made by our own transport
        return read_message(delivered.delivery_tag, delivered.body, bytes(raw))


def _fail(arrived: asyncio.Future[DeliveredMessage], queue: str) -> None:
    if not arrived.done():
        arrived.set_exception(QueueMissing(f"wait at queue {queue}: it was deleted, or its node went away"))
