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
LAST = (1 << 64) - 1
_SEND = Script("""
local stream, channel, key, since, maxlen, keep_s = KEYS[1], unpack(ARGV, 1, 5)
local is_ours = stream ~= nil
local last = stream and redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
if last and last[2][2] ~= key then
  is_ours = tonumber(last[2][4]) <= tonumber(since)
  if is_ours then redis.call('DEL', stream) end
end
for at = 6, #ARGV, 2 do
  local id, message, is_new = ARGV[at], ARGV[at + 1], true
  if is_ours and id ~= '' then
    local entry = {'key', key, 'since', since, 'data', message}
    local added = redis.pcall('XADD', stream, 'MAXLEN', '~', maxlen, id, unpack(entry))
    if type(added) == 'table' and added.err then
      is_new = false
      if not string.find(added.err, 'equal or smaller than', 1, true) then return added end
    end
  end
  if is_new and channel ~= '' then redis.call('PUBLISH', channel, message) end
end
if is_ours then redis.call('EXPIRE', stream, keep_s) end
return 1
""")
"""
Add and publish messages, but those that the stream has already; each has its id before it, "" where it has no position.

The stream of an earlier job of the same id is begun anew; one that a later job has is left to that.
"""


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
        # When each was first heard of, in epoch seconds.
        self._began: Remembered[float] = Remembered()
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
        wanted = self._wanted.get(key) or (await self.open(key, job_id)) or Position()
        new = [line for line in lines if Position(line.attempt, line.sequence) >= wanted]
        told = [("", self._dialect.encode(event)) for event in events]
        sent = [(f"{it.attempt}-{it.sequence + 1}", self._dialect.encode(it)) for it in chunks(new)]
        began_at = min([*(event.at for event in events), *(line.at_ns / 1e9 for line in new[:1])], default=0.0)
        self._wanted.forget(key)  # unknown if this fails
        await self._send(key, job_id, began_at, [*told, *sent])
        self._wanted.set(key, Position(new[-1].attempt, new[-1].sequence + 1) if new else wanted)

    async def close(self, key: Key, job_id: str, end: End) -> None:
        if self._ended.get(key) != end:
            message = self._dialect.encode(end.event)
            await self._send(key, job_id, end.event.at, [(f"{end.event.attempt}-{LAST}", message)])
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
        """Ask the stream; one of another job of the same id has nothing of this one."""
        doing = "look how far a log was sent"
        stream = self._names.filled(self._names.stream, key, job_id)
        for entry, fields in await self._client().call(doing, "XREVRANGE", stream, "+", "-", "COUNT", 1):
            if fields.get(b"key") == key.encode():
                attempt, _, sequence = entry.decode().partition("-")
                return Position(int(attempt), int(sequence))
        return Position()

    async def _send(self, key: Key, job_id: str, began_at: float, messages: Sequence[tuple[str, bytes | None]]) -> None:
        """Send all in one trip; ``began_at`` says which of two jobs of one id is the later one."""
        known = self._began.get(key)
        since = began_at if known is None else known
        self._began.set(key, since)
        stream, channel = (self._names.filled(it, key, job_id) for it in (self._names.stream, self._names.channel))
        named = [part for it in messages if it[1] is not None for part in it]
        if named:
            arguments = (channel, key, round(since * 1e6), self._names.maxlen, self._names.keep_s, *named)
            await self._client().run("send log", _SEND, [stream] if stream else [], arguments)
