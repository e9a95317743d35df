"""Log streams and channels in a real Redis, reached through a proxy that can break."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec

from runner.job import Key
from runner.ports import LogLine, Sink
from runner.receipt import Event
from tests.conformance.redis_harness import connected, redis_url
from tests.conformance.sink_harness import IDS, OpenedByUrl
from tests.fault_proxy import FaultProxy, proxied

MARK = b"no more"


def told(message: bytes) -> LogLine | Event:
    """Read what the native dialect wrote."""
    document = msgspec.json.decode(message)
    if "event" in document:
        return msgspec.convert(document["event"], Event)
    data = b64decode(document["data"]) if "data" in document else document["text"].encode()
    return LogLine(document["attempt"], document["sequence"], round(document["at"] * 1e9), document["stream"], data)


class RedisSinkHarness(OpenedByUrl):
    """What both have in common; ``told`` says what arrived for one job."""

    knows = tells_events = True
    parameters = ""

    def __init__(self) -> None:
        super().__init__()
        self.direct = redis_url()
        self.url = ""
        self._proxy: FaultProxy | None = None

    @asynccontextmanager
    async def ready(self) -> AsyncIterator[None]:
        parts = urlsplit(self.direct)
        async with proxied("127.0.0.1", parts.port or 0) as proxy:
            self._proxy, self.url = proxy, f"redis://127.0.0.1:{proxy.port}{parts.path}"
            try:
                yield
            finally:
                await self.release()

    def open(self) -> Sink:
        return self.opened(self.url + self.parameters)

    def told(self, key: Key) -> list[LogLine | Event]:
        raise NotImplementedError

    def lines(self, key: Key) -> list[LogLine]:
        return [item for item in self.told(key) if isinstance(item, LogLine)]

    def events(self, key: Key) -> list[Event]:
        return [item for item in self.told(key) if isinstance(item, Event)]

    def break_down(self, *, broken: bool) -> None:
        assert self._proxy is not None
        self._proxy.fault = "refuse" if broken else ""
        self._proxy.cut()


class RedisStreamHarness(RedisSinkHarness):
    """Who comes late reads the stream."""

    tells_events = False
    parameters = "?stream=logs:{queue}:{key}&maxlen=1000&keep=1h"

    def told(self, key: Key) -> list[LogLine | Event]:
        with connected(self.direct) as redis:
            return [told(fields[b"data"]) for _, fields in redis.xrange(f"logs:train:{key}")]


class RedisChannelHarness(RedisSinkHarness):
    """Who listens gets messages; nothing says what was sent before."""

    knows = False
    parameters = "?channel=logs:{id}"

    def __init__(self) -> None:
        super().__init__()
        self._redis: Any = None
        self._listeners: dict[Key, Any] = {}
        self._heard: dict[Key, list[LogLine | Event]] = {key: [] for key in IDS}

    def _channel(self, key: Key) -> str:
        return f"logs:{IDS[key]}"

    @asynccontextmanager
    async def ready(self) -> AsyncIterator[None]:
        async with super().ready():
            with connected(self.direct) as self._redis:
                for key in IDS:
                    listener = self._listeners[key] = self._redis.pubsub(ignore_subscribe_messages=True)
                    listener.subscribe(self._channel(key))
                    listener.get_message(timeout=5)
                try:
                    yield
                finally:
                    for listener in self._listeners.values():
                        listener.close()

    def told(self, key: Key) -> list[LogLine | Event]:
        self._redis.publish(self._channel(key), MARK)
        while (message := self._listeners[key].get_message(timeout=5)) is None or message["data"] != MARK:
            if message is not None:
                self._heard[key].append(told(message["data"]))
        return self._heard[key]


class RedisBothHarness(RedisChannelHarness):
    """With neither parameter there are both, of names of our own; the channel is looked at."""

    knows = True
    parameters = ""

    def _channel(self, key: Key) -> str:
        return f"runner:train:log:{IDS[key]}"
