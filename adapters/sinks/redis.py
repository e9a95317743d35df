"""
Logs on a Redis channel, for those who listen now, and in a Redis stream, for those who come late.

An entry's id is ``<attempt>-<sequence + 1>`` of the last record in it, and the end of a job has the highest id that its
attempt can have, so the stream itself tells how far it got; what an earlier attempt still has to say finds no place in
it any more. State changes but the end are on the channel alone: they have no position. Where there is a stream, what is
sent again reaches neither it nor the channel twice; a channel alone may get it twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.redis_client import RedisClient, Script
from adapters.sinks.chunks import chunks
from adapters.sinks.remembered import Remembered
from adapters.sinks.templates import fill
from adapters.sinks.urls import SinkUrl
from runner.job import Key
from runner.ports import Dialect, End, LogLine, Position, SinkTraits
from runner.receipt import Event
from runner.units import parse_duration

OWN_NAME = "runner:{queue}:log:{id}"
MAXLEN = 10_000
KEEP_S = 7 * 86400.0
DOING = "send log"
LAST = (1 << 64) - 1
_STANDS = "equal or smaller than"
"""What Redis says of an id that is not after the stream's last one."""
_END = Script("""
local stream, channel = KEYS[1], ARGV[1]
if stream then
  local added = redis.pcall('XADD', stream, 'MAXLEN', '~', ARGV[2], ARGV[4], 'key', ARGV[5], 'data', ARGV[6])
  if type(added) == 'table' and added.err then
    if string.find(added.err, 'equal or smaller than', 1, true) then return 0 end
    return added
  end
  redis.call('EXPIRE', stream, ARGV[3])
end
if channel ~= '' then redis.call('PUBLISH', channel, ARGV[6]) end
return 1
""")
"""Tell the end, unless it stands in the stream."""


@dataclass(frozen=True)
class Names:
    """Where the logs of jobs go, with ``{id}``, ``{key}`` and ``{queue}`` in it; "" where nothing goes."""

    queue: str
    channel: str
    stream: str
    maxlen: int = MAXLEN
    keep_s: int = int(KEEP_S)

    @classmethod
    def of(cls, url: SinkUrl, queue: str) -> Names:
        """Read what a URL names; names of our own where it names none."""
        own = "" if {"channel", "stream"} & url.options.keys() else OWN_NAME
        channel, stream = (url.options.get(name, own) for name in ("channel", "stream"))
        keep_s = parse_duration(url.options["keep"]) if "keep" in url.options else KEEP_S
        return cls(queue, channel, stream, int(url.options.get("maxlen", MAXLEN)), int(keep_s))

    def filled(self, template: str, key: Key, job_id: str) -> str:
        """Fill a name in."""
        return fill(template, {"queue": self.queue, "key": key, "id": job_id})


class RedisSink:
    """Chunks of the logs of all jobs of one queue, as a dialect writes them; ``connect`` is called with the first."""

    def __init__(
        self, connect: Callable[[], RedisClient], names: Names, dialect: Dialect, lag_max_bytes: int | None = None
    ) -> None:
        self._connect = connect
        self._opened: RedisClient | None = None
        self._names = names
        self._dialect = dialect
        self._traits = SinkTraits(coalesces=True, lag_max_bytes=lag_max_bytes)
        # The next record wanted of the jobs that were fed last; unknown after a failure, and then asked for.
        self._wanted: Remembered[Position] = Remembered()
        # The ends told last, so that a channel alone gets each once.
        self._ended: Remembered[End] = Remembered()

    @property
    def traits(self) -> SinkTraits:
        return self._traits

    async def open(self, key: Key, job_id: str) -> Position | None:
        if not self._names.stream:
            return None
        wanted = await self._position(key, job_id)
        self._wanted.set(key, wanted)
        return wanted

    async def write(self, key: Key, job_id: str, events: Sequence[Event], lines: Sequence[LogLine]) -> None:
        wanted = self._wanted.get(key)
        if wanted is None:
            wanted = (await self.open(key, job_id)) or Position()
        new = [line for line in lines if Position(line.attempt, line.sequence) >= wanted]
        commands = [*self._told(key, job_id, events), *self._sent(key, job_id, new)]
        if commands:
            await self._send(key, commands)
        if new:
            self._wanted.set(key, Position(new[-1].attempt, new[-1].sequence + 1))

    async def close(self, key: Key, job_id: str, end: End) -> None:
        message = self._dialect.encode(end.event)
        if message is not None and self._ended.get(key) != end:
            channel, stream = self._channel(key, job_id), self._stream(key, job_id)
            entry = f"{end.event.attempt}-{LAST}"
            arguments = (channel, self._names.maxlen, self._names.keep_s, entry, key, message)
            await self._client().run(DOING, _END, [stream] if stream else [], arguments)
        self._ended.set(key, end)
        self._wanted.forget(key)

    async def release(self) -> None:
        if self._opened is not None:
            await self._opened.close()

    def _client(self) -> RedisClient:
        if self._opened is None:
            self._opened = self._connect()
        return self._opened

    async def _position(self, key: Key, job_id: str) -> Position:
        """Ask the stream; one of an earlier job of the same id gives way."""
        stream = self._stream(key, job_id)
        found = await self._client().call(DOING, "XREVRANGE", stream, "+", "-", "COUNT", 1)
        if not found:
            return Position()
        ((entry, fields),) = found
        if fields.get(b"key") != key.encode():
            await self._client().call(DOING, "DEL", stream)
            return Position()
        attempt, _, sequence = entry.decode().partition("-")
        return Position(int(attempt), int(sequence))

    async def _send(self, key: Key, commands: Sequence[tuple[Any, ...]]) -> None:
        """Send all in one transaction and one trip; what a stream has already is no error."""
        from redis.exceptions import ResponseError

        self._wanted.forget(key)
        async with self._client().calling(DOING) as redis, redis.pipeline(transaction=True) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            for answer in await pipeline.execute(raise_on_error=False):
                if isinstance(answer, ResponseError) and _STANDS not in str(answer):
                    raise answer

    def _told(self, key: Key, job_id: str, events: Sequence[Event]) -> list[tuple[Any, ...]]:
        channel = self._channel(key, job_id)
        messages = [self._dialect.encode(event) for event in events] if channel else []
        return [("PUBLISH", channel, message) for message in messages if message is not None]

    def _sent(self, key: Key, job_id: str, lines: Sequence[LogLine]) -> list[tuple[Any, ...]]:
        channel, stream = self._channel(key, job_id), self._stream(key, job_id)
        commands: list[tuple[Any, ...]] = []
        for chunk in chunks(lines):
            message = self._dialect.encode(chunk)
            if message is None:
                continue
            if stream:
                entry = f"{chunk.attempt}-{chunk.sequence + 1}"
                commands.append(("XADD", stream, "MAXLEN", "~", self._names.maxlen, entry, "key", key, "data", message))
            if channel:
                commands.append(("PUBLISH", channel, message))
        return [*commands, ("EXPIRE", stream, self._names.keep_s)] if stream and commands else commands

    def _channel(self, key: Key, job_id: str) -> str:
        return self._names.filled(self._names.channel, key, job_id)

    def _stream(self, key: Key, job_id: str) -> str:
        return self._names.filled(self._names.stream, key, job_id)
