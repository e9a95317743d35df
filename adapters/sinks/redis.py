"""
Logs on a Redis channel, for those who listen now, and in a Redis stream, for those who come late.

An entry's id is ``<attempt>-<sequence + 1>`` of the last record in it, and the end of a job has the highest id that its
attempt can have, so the stream itself tells how far it got. What an earlier attempt still has to say finds no place in
it any more, and goes to the channel alone; so do state changes but the end, which have no position. Where there is a
stream, what is sent again reaches neither it nor the channel twice; a channel alone may get it twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

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
local stream, channel, key, box, attempt, since, maxlen, keep_s = KEYS[1], unpack(ARGV, 1, 7)

local function tail()
  local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  if last then return last[1], last[2][2], last[2][4], tonumber(last[2][6]) end
end

local function drop_attempt()
  repeat
    local old = redis.call('XRANGE', stream, attempt .. '-0', attempt, 'COUNT', 100)
    for _, entry in ipairs(old) do redis.call('XDEL', stream, entry[1]) end
  until #old == 0
  local last_id = tail()
  if last_id then redis.call('XSETID', stream, last_id) else redis.call('DEL', stream) end
end

local function taken()
  local last_id, last_key, last_box, last_since = tail()
  if not last_id or (last_key == key and last_box == box) then return true end
  local later = tonumber(since) - last_since
  if last_key ~= key then
    if later >= 0 then redis.call('DEL', stream) end
    return later >= 0
  end
  local newer = tonumber(attempt) - tonumber(string.match(last_id, '^%d+'))
  if newer == 0 and later > 0 then drop_attempt() end
  return newer > 0 or (newer == 0 and later > 0)
end

local is_ours = stream and taken()
for at = 8, #ARGV, 2 do
  local id, message, is_new = ARGV[at], ARGV[at + 1], true
  if is_ours and id ~= '' then
    local entry = {'key', key, 'box', box, 'since', since, 'data', message}
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
Add and publish messages of one attempt, but those that the stream has already; each has its id before it, "" where it
has no position.

Where another box stands in the stream, a later attempt goes on behind it, and of one attempt run twice the later run
stays. The stream of an earlier job of the same id is begun anew. Who stands behind keeps out of it.
"""


@dataclass(frozen=True)
class Names:
    """Where the logs of jobs go, with ``{id}``, ``{key}`` and ``{queue}`` in it; "" where nothing goes."""

    queue: str
    box: str
    channel: str
    stream: str
    maxlen: int = MAXLEN
    keep_s: int = int(KEEP_S)

    @classmethod
    def of(cls, url: SinkUrl, queue: str, box: str) -> Names:
        """Read what a URL names; names of our own where it names none."""
        own = "" if {"channel", "stream"} & url.options.keys() else OWN_NAME
        channel, stream = (url.options.get(name, own) for name in ("channel", "stream"))
        keep_s = parse_duration(url.options["keep"]) if "keep" in url.options else KEEP_S
        return cls(queue, box, channel, stream, int(url.options.get("maxlen", MAXLEN)), int(keep_s))

    def filled(self, template: str, key: Key, job_id: str) -> str:
        """Fill a name in."""
        return fill(template, {"queue": self.queue, "key": key, "id": job_id})


@dataclass(frozen=True)
class Began:
    """An attempt, and when it was first heard of, in epoch seconds."""

    attempt: int
    at: float


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
        # The attempt of each that was fed last.
        self._began: Remembered[Began] = Remembered()
        # The ends told last, so that a channel alone gets each once.
        self._ended: Remembered[End] = Remembered()

    @property
    def traits(self) -> SinkTraits:
        return self._traits

    async def open(self, key: Key, job_id: str) -> Position | None:
        if not self._names.stream:
            return None
        wanted = await self._position(key, job_id)
        if wanted is not None:
            self._wanted.set(key, wanted)
        return wanted

    async def write(self, key: Key, job_id: str, events: Sequence[Event], lines: Sequence[LogLine]) -> None:
        wanted = self._wanted.get(key) or (await self.open(key, job_id)) or Position()
        new = [line for line in lines if Position(line.attempt, line.sequence) >= wanted]
        self._wanted.forget(key)  # unknown if this fails
        told = [("", self._dialect.encode(event)) for event in events]
        for attempt, run in groupby(new, lambda line: line.attempt):
            of_attempt = list(run)
            sent = [(f"{attempt}-{it.sequence + 1}", self._dialect.encode(it)) for it in chunks(of_attempt)]
            await self._send(key, job_id, Began(attempt, of_attempt[0].at_ns / 1e9), [*told, *sent])
            told = []
        if told:
            await self._send(key, job_id, Began(events[0].attempt, events[0].at), told)
        self._wanted.set(key, new[-1].next if new else wanted)

    async def close(self, key: Key, job_id: str, end: End) -> None:
        if self._ended.get(key) != end:
            event = end.event
            message = (f"{event.attempt}-{LAST}", self._dialect.encode(event))
            await self._send(key, job_id, Began(event.attempt, event.at), [message])
        self._ended.set(key, end)
        self._wanted.forget(key)

    async def release(self) -> None:
        if self._opened is not None:
            await self._opened.close()

    def _client(self) -> RedisClient:
        if self._opened is None:
            self._opened = self._connect()
        return self._opened

    async def _position(self, key: Key, job_id: str) -> Position | None:
        """Ask the stream; one of another job of the same id has nothing of this one. None where another box stands."""
        doing = "look how far a log was sent"
        stream = self._names.filled(self._names.stream, key, job_id)
        for entry, fields in await self._client().call(doing, "XREVRANGE", stream, "+", "-", "COUNT", 1):
            if fields.get(b"key") != key.encode():
                break
            attempt, _, sequence = entry.decode().partition("-")
            return Position(int(attempt), int(sequence)) if fields.get(b"box") == self._names.box.encode() else None
        return Position()

    async def _send(self, key: Key, job_id: str, began: Began, messages: Sequence[tuple[str, bytes | None]]) -> None:
        """Send all in one trip; the first time that is given for an attempt is when it began."""
        known = self._began.get(key)
        began = known if known is not None and known.attempt == began.attempt else began
        self._began.set(key, began)
        names = self._names
        stream, channel = (names.filled(it, key, job_id) for it in (names.stream, names.channel))
        named = [part for it in messages if it[1] is not None for part in it]
        if named:
            about = (channel, key, names.box, began.attempt, round(began.at * 1e6), names.maxlen, names.keep_s)
            await self._client().run("send log", _SEND, [stream] if stream else [], (*about, *named))
