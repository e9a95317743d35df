"""
The way to a RabbitMQ broker below the client library: its frames pass through here before the library decodes them.

The properties of a message reach us as the bytes they are, in a header of their own. A message that the broker could
not route is noted by its channel and goes no further. Why the broker closes a connection is noted, too.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from typing import Any, cast

from aiormq.connection import TransportFactory
from yarl import URL

from adapters.queues.rabbitmq_fields import Properties, encode_properties

RAW = "raw"
METHOD, HEADER, BODY = 1, 2, 3
RETURN = struct.pack(">HH", 60, 50)
CLOSE = struct.pack(">HH", 10, 50)
FRAME_OVERHEAD = 8


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """Return one frame as it goes over the wire."""
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def content_frames(channel: int, properties: bytes, body: bytes, frame_max: int) -> bytes:
    """Return the frames of a message after the one that publishes it."""
    room = frame_max - FRAME_OVERHEAD
    pieces = [frame(BODY, channel, body[at : at + room]) for at in range(0, len(body), room)]
    return frame(HEADER, channel, struct.pack(">HHQ", 60, 0, len(body)) + properties) + b"".join(pieces)


class Told:
    """What a broker told that the client library does not pass on."""

    def __init__(self) -> None:
        # Channels that had a message returned since somebody looked.
        self.returned: set[int] = set()
        # Why it closed the connection; "" as long as it did not.
        self.goodbye = ""


class Frames:
    """Reads as a stream reader does, whole frames at a time."""

    def __init__(self, reader: asyncio.StreamReader, told: Told) -> None:
        """Note in ``told`` what goes no further."""
        self._reader, self._told = reader, told
        # What is left of the frame that is being read.
        self._ready = b""
        # Bytes that are still to come of messages that are returned, by channel; None before their header.
        self._swallowed: dict[int, int | None] = {}

    def at_eof(self) -> bool:
        return not self._ready and self._reader.at_eof()

    async def read(self, size: int = -1) -> bytes:
        ready, self._ready = self._ready, b""
        return ready or await self._reader.read(size)

    async def readexactly(self, size: int) -> bytes:
        while not self._ready:
            self._ready = await self._next()
        piece, self._ready = self._ready[:size], self._ready[size:]
        return piece

    async def _next(self) -> bytes:
        """Return the next frame that the library is to see; b"" for one that it is not."""
        head = await self._reader.readexactly(7)
        if head[:4] == b"AMQP":
            return head
        kind, channel, size = struct.unpack(">BHI", head)
        payload = (await self._reader.readexactly(size + 1))[:-1]
        if kind == METHOD and payload[:4] == RETURN:
            self._told.returned.add(channel)
            self._swallowed[channel] = None
            return b""
        if kind == METHOD and payload[:4] == CLOSE:
            self._told.goodbye = payload[7 : 7 + payload[6]].decode("utf-8", "replace")
        if kind in {HEADER, BODY} and channel in self._swallowed:
            self._swallow(kind, channel, payload)
            return b""
        return frame(kind, channel, _wrapped(payload) if kind == HEADER else payload)

    def _swallow(self, kind: int, channel: int, payload: bytes) -> None:
        known = self._swallowed[channel] or 0
        left = int.from_bytes(payload[4:12], "big") if kind == HEADER else known - len(payload)
        self._swallowed[channel] = left
        if left <= 0:
            del self._swallowed[channel]


def _wrapped(payload: bytes) -> bytes:
    raw = payload[12:]
    return payload[:12] + encode_properties(
        Properties(headers={RAW.encode(): b"x" + struct.pack(">I", len(raw)) + raw})
    )


class Transport(TransportFactory):
    """Opens connections that read through ``Frames``."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        self.told = Told()

    async def create(self, url: URL, **_: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(url.host, url.port, ssl=self._tls)
        # The library calls nothing of it but what `Frames` has.
        return cast("asyncio.StreamReader", Frames(reader, self.told)), writer
