"""
A result backend in Redis: events, logs, receipts, archives, uploads, stop marks and beats of a queue's jobs.

For any number of boxes and readers; what changes together changes in one step on the server. Everything expires, and
of a job's log the newest part is kept, up to a size. What was acknowledged survives as far as the server's own
persistence goes.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import msgspec

from adapters.redis_client import PREFIX, RedisClient, key_start
from adapters.results.reading import read, read_all
from adapters.results.redis_follower import RedisFollower
from adapters.results.redis_job_scripts import APPEND, GET, RECEIPT, ROWS
from adapters.results.redis_keys import STOPS_MAX, id_bytes, id_name, id_text
from adapters.results.redis_lines import Chunk, calls
from adapters.results.redis_pieces import Pieces, Source, Target
from adapters.results.redis_queue_scripts import ARCHIVE, BEAT, BEATS, PRUNE, STOP, UPLOAD
from adapters.results.rows import CLIENT, dated_row, is_final, row_within
from adapters.results.secrets import results_secrets
from adapters.results.upload_files import PREFIX as UPLOAD_PREFIX
from adapters.results.upload_files import digest_in, missing
from runner.credential import Credential
from runner.errors import AlreadyStored, Refused
from runner.job import ID_PATTERN, Key, safe_name
from runner.ports import LogLine, Position
from runner.receipt import BoxBeat, Event, JobRow, Receipt
from runner.secret import Secret
from runner.units import format_size

ARCHIVE_BYTES = 64 << 20
UPLOAD_BYTES = 256 << 20
FOLLOW_WAIT_S = 10.0
ROWS_PER_CALL = 200
PRUNED_PER_CALL = 100
ATTEMPT_DIGITS = 6
_ARCHIVE = re.compile(rf"#log/({ID_PATTERN.pattern})~([0-9]{{{ATTEMPT_DIGITS},9}})(?:[.][^/]*)?$")


@dataclass(frozen=True)
class Bounds:
    """
    How much of logs is kept.

    Of one job's log the newest ``log_bytes`` can be followed; its archive holds all of it. Where the logs and archives
    of a queue are more than ``all_bytes``, those of the jobs that ended first go; receipts and state changes stay.
    """

    log_bytes: int = 16 << 20
    all_bytes: int = 1 << 30


class RedisResults:
    """
    The results of ``queue`` in the Redis at ``url``; ``box_id`` names this box, a client that only reads needs none.

    ``secrets`` may hold ``username`` and ``password``, ``options`` a ``ca_file``.

    Raises:
        ConfigurationError: the URL or the ``ca_file`` cannot be used.
    """

    def __init__(
        self,
        url: str,
        queue: str,
        *,
        box_id: str = "",
        secrets: Mapping[str, Secret] | None = None,
        options: Mapping[str, str] | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        self._client = RedisClient(url, secrets or {}, options or {})
        self._queue = queue
        self._start = key_start(self._client.place.prefix, queue) + "results:"
        self._pieces = Pieces(self._client, self._start)
        self._box = safe_name(box_id or CLIENT)
        self._bounds = bounds or Bounds()

    async def append(self, key: Key, job_id: str, events: Sequence[Event], lines: Sequence[LogLine]) -> None:
        *first, last = calls(lines)
        for chunks in first:
            await self._append(key, job_id, chunks, ())
        await self._append(key, job_id, last, events)

    async def tail(self, job_id: str, position: Position, *, follow: bool) -> AsyncIterator[LogLine | Event]:
        follower = RedisFollower(self._client, self._start, job_id, position)
        while True:
            batch = await follower.read()
            for told in batch:
                yield told
            if follower.ended or not (batch or follow):
                return
            if not batch:
                await follower.wait(FOLLOW_WAIT_S)

    async def put_receipt(self, receipt: Receipt) -> None:
        ended_at = (receipt.ended_at or 0.0) if receipt.state == "ended" else ""
        row = msgspec.json.encode(row_within(receipt))
        job = (receipt.key, id_name(receipt.id), receipt.attempt, safe_name(receipt.box))
        arguments = (*job, msgspec.json.encode(receipt), row, ended_at)
        if not await self._client.run("store receipt in results", RECEIPT, [self._start], arguments):
            raise AlreadyStored(f"receipt of {receipt.key}, attempt {receipt.attempt}: one is stored already")

    async def put_log(self, key: Key, attempt: int, path: str) -> str:
        doing = "store log in results"
        async with Source(path) as source, self._pieces.storing(doing, source, ARCHIVE_BYTES) as stored:
            arguments = (
                stored.name,
                key,
                attempt,
                stored.pieces,
                stored.digest,
                source.size_bytes,
                self._bounds.all_bytes,
            )
            await self._client.run(doing, ARCHIVE, [self._start], arguments)
        return self._archive_url(key, attempt, "".join(os.path.basename(path).partition(".")[1:]))

    async def get(self, job_id: str) -> Receipt | None:
        arguments = (job_id if ID_PATTERN.fullmatch(job_id) else "", id_name(job_id))
        content = await self._client.run("read receipt in results", GET, [self._start], arguments)
        return read(content, Receipt)

    async def list(self, *, ended: bool) -> tuple[JobRow, ...]:
        index = self._start + ("jobs" if ended else "active")
        keys = await self._client.call("list results", "ZREVRANGE", index, 0, -1)
        rows: list[tuple[float, JobRow]] = []
        for first in range(0, len(keys), ROWS_PER_CALL):
            portion = keys[first : first + ROWS_PER_CALL]
            found = await self._client.run("list results", ROWS, [self._start], portion)
            rows += (row for row in map(_row, found) if row is not None)
        wanted = (row for row in rows if ended or row[1].state != "ended")
        return tuple(row for _, row in sorted(wanted, key=lambda item: item[0], reverse=True))

    async def put_upload(self, path: str) -> str:
        doing = "store upload in results"
        async with Source(path) as source:
            while await source.read():
                _check_upload(source.size_bytes)
            digest = await source.digest()
        if not await self._client.run(doing, UPLOAD, [self._start], ("", digest, 0)):
            async with Source(path) as source, self._pieces.storing(doing, source, UPLOAD_BYTES) as stored:
                if stored.digest != digest:
                    raise Refused(f"{doing}: {path} changed while it was read: submit it again")
                await self._client.run(doing, UPLOAD, [self._start], (stored.name, digest, stored.pieces))
        return UPLOAD_PREFIX + digest

    async def get_upload(self, url: str, path: str) -> None:
        digest, doing = digest_in(url), "read upload in results"
        if not await self._client.run(doing, UPLOAD, [self._start], ("", digest, 0)):
            raise missing(url)
        async with Target(path) as target:
            whole = await self._pieces.load(doing, f"upload:{digest}", target)
            if not whole or await target.digest() != digest:
                await self._client.call(doing, "UNLINK", f"{self._start}upload:{digest}")
                raise Refused(f"input {url}: the stored upload was damaged and is deleted: submit it again")
            await target.put_in_place()

    async def request_stop(self, job_id: str) -> None:
        await self._client.run("set stop mark in results", STOP, [self._start], (id_bytes(job_id),))

    async def clear_stop(self, job_id: str) -> None:
        await self._client.call("clear stop mark in results", "ZREM", f"{self._start}stops", id_bytes(job_id))

    async def stops(self) -> frozenset[str]:
        newest = (f"{self._start}stops", 0, STOPS_MAX - 1)
        ids = await self._client.call("read stop marks in results", "ZREVRANGE", *newest)
        return frozenset(map(id_text, ids))

    async def beat(self, beat: BoxBeat) -> None:
        arguments = (safe_name(beat.box), msgspec.json.encode(beat))
        await self._client.run("write beat into results", BEAT, [self._start], arguments)

    async def beats(self) -> tuple[BoxBeat, ...]:
        contents = await self._client.run("read signs of life in results", BEATS, [self._start])
        return tuple(sorted(read_all(contents, BoxBeat), key=lambda beat: beat.box))

    async def prune(self, before: float) -> int:
        gone, more = 0, True
        while more:
            arguments = (before, PRUNED_PER_CALL)
            count, more = await self._client.run("prune results", PRUNE, [self._start], arguments)
            gone += count
        return gone

    async def change(self, credential: Credential) -> None:
        await self._client.change(results_secrets(credential))

    async def close(self) -> None:
        await self._client.close()

    async def get_log(self, url: str, path: str) -> None:
        named = _ARCHIVE.search(url)
        async with Target(path) as target:
            name = f"archive:{named[1]}:{int(named[2])}" if named else ""
            if not name or not await self._pieces.load("read log in results", name, target):
                raise Refused(f"{url}: there is no such archive any more, or it is damaged")
            await target.put_in_place()

    async def _append(self, key: Key, job_id: str, chunks: Sequence[Chunk], events: Sequence[Event]) -> None:
        bounds = (self._bounds.log_bytes, self._bounds.all_bytes)
        arguments: list[object] = [key, id_name(job_id), self._box, *bounds, len(chunks)]
        for chunk in chunks:
            arguments += chunk.arguments()
        for event in events:
            arguments += (event.at if is_final(event) else "", msgspec.json.encode(event))
        await self._client.run("append to results", APPEND, [self._start], arguments)

    def _archive_url(self, key: Key, attempt: int, suffix: str) -> str:
        place = self._client.place
        prefix = f"&prefix={quote(place.prefix, safe='')}" if place.prefix != PREFIX else ""
        queue = quote(self._queue, safe="", errors="surrogateescape")
        return f"{place.url}?queue={queue}{prefix}#log/{key}~{attempt:0{ATTEMPT_DIGITS}d}{quote(suffix)}"


def _check_upload(size_bytes: int) -> None:
    if size_bytes > UPLOAD_BYTES:
        limit = format_size(UPLOAD_BYTES)
        raise Refused(
            f"upload: more than {limit}, the most that this queue's result backend takes, which is a Redis: "
            "put it into a store and name its URL as the input, or leave files out with .runnerignore"
        )


def _row(found: tuple[bytes | None, Sequence[bytes]] | None) -> tuple[float, JobRow] | None:
    """Return when a job was first heard of, and its row; None where it expired meanwhile."""
    if found is None:
        return None
    row, told = found
    items = [item.partition(b"\0") for item in told]
    events = [(read(event, Event), box.decode(errors="replace")) for box, _, event in items]
    return dated_row([(event, box) for event, box in events if event is not None], read(row, JobRow))
