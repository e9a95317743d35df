"""
Reads one job's records and events from Redis as they are written, by whatever box, and waits on the server for more.

Several boxes may have had one attempt, one after the other: the job's own output is then that of the box whose receipt
stands, else of the one that began last, and what the runners said is told of all. Where the oldest of a log is trimmed,
a record of stream ``gap`` says so in the place of the last one that is missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from adapters.redis_client import RedisClient
from adapters.results.reading import read_all
from adapters.results.redis_job_scripts import LOOK, READ
from adapters.results.redis_keys import id_name
from adapters.results.redis_lines import decode
from adapters.results.telling import OUTPUT, Telling
from runner.job import ID_PATTERN
from runner.ports import Gap, LogLine, Position
from runner.receipt import Event

DOING = "read log in results"
TRIMMED = "the oldest of a long log is not kept here; its archive may have it"
LOST = re.compile(rb"(\d{1,20} ){2}\d{1,20}")
"""Last sequence lost, when it was written, bytes lost."""


@dataclass(frozen=True)
class Part:
    """A box's log of an attempt: its last entry, and when it began, by the clock of the box and by the entry."""

    name: str
    attempt: int
    box: str
    last: tuple[int, int]
    began: tuple[int, tuple[int, int]]


@dataclass
class Place:
    """How far a part was read: the entry read last, and the sequence wanted next."""

    entry: bytes = b""
    wanted: int = 0


class RedisFollower:
    """One reader of one job, from a position on."""

    def __init__(self, client: RedisClient, start: str, job_id: str, position: Position) -> None:
        self._client, self._start, self._position = client, start, position
        self._asked, self._id = job_id if ID_PATTERN.fullmatch(job_id) else "", id_name(job_id)
        # Found once and then kept, also when a newer job of this id comes.
        self._key = b""
        self._telling = Telling(position)
        self._heard = 0
        self._places: dict[str, Place] = {}
        # The last ring of the job's bell before what was read last.
        self._rung = b"0-0"
        self._gone = False

    @property
    def ended(self) -> bool:
        """Tell whether nothing more will come."""
        return self._gone or self._telling.ended

    async def read(self) -> Sequence[LogLine | Event]:
        """Return what is new, about 1 MiB of it; [] where nothing is."""
        while not self.ended:
            fields = await self._look()
            if fields is None:
                return []
            lines = await self._read_lines(_parts(fields), fields)
            if lines is None:
                return list(self._telling.rest())
            if batch := list(self._telling.merged(lines)):
                return batch
        return []

    async def wait(self, limit_s: float) -> None:
        """Return when something may be new, or after ``limit_s``."""
        bell = f"{self._start}bell:".encode() + (self._key or self._id.encode())
        command = ("XREAD", "COUNT", 1, "BLOCK", int(limit_s * 1000), "STREAMS", bell, self._rung)
        await self._client.wait("follow job in results", *command, wait_s=limit_s)

    async def _look(self) -> dict[bytes, bytes] | None:
        """Take in new events, before records are read, so that all told before an event are there when its turn is."""
        arguments = (self._asked, self._id, self._key, self._heard)
        key, self._rung, heard, told, fields = await self._client.run(DOING, LOOK, [self._start], arguments)
        if not key:
            self._gone = bool(self._key)  # it was pruned while it was read
            return None
        self._key, self._heard = key, heard
        self._telling.hear(read_all((item.partition(b"\0")[2] for item in told), Event))
        return dict(zip(fields[::2], fields[1::2], strict=True))

    async def _read_lines(self, parts: list[Part], fields: dict[bytes, bytes]) -> list[LogLine] | None:
        """Return the next records of the first attempt and box that have new ones; None: there are no new ones."""
        for part in parts:
            if part.attempt < self._position.attempt:
                continue
            if lines := await self._read_part(part):
                boxes = [other for other in parts if other.attempt == part.attempt]
                if len(boxes) == 1 or part == _speaker(boxes, fields):
                    return lines
                return [line for line in lines if line.stream not in OUTPUT]
        return None

    async def _read_part(self, part: Part) -> list[LogLine]:
        place = self._places.setdefault(part.name, Place())
        while _entry(place.entry) < part.last:
            arguments = (self._key, part.name, place.entry)
            lost, place.entry, *chunks = await self._client.run(DOING, READ, [self._start], arguments)
            if lines := list(_new_lines(part.attempt, place, lost, chunks)):
                return lines
        return []


def _parts(fields: dict[bytes, bytes]) -> list[Part]:
    """Return the parts of a log in the order in which they are read; what is garbled is none."""
    found = []
    for field, state in fields.items():
        if field.startswith(b"part:"):
            with suppress(ValueError):
                found.append(_part(field.decode().removeprefix("part:"), state))
    return sorted(found, key=lambda part: (part.attempt, part.began))


def _part(name: str, state: bytes) -> Part:
    _, first, last, began_ns, *_ = state.split()
    attempt, _, box = name.partition(":")
    return Part(name, int(attempt), box, _entry(last), (int(began_ns), _entry(first)))


def _speaker(boxes: list[Part], fields: dict[bytes, bytes]) -> Part:
    """Return the part whose output of the attempt is the one that counts."""
    winner = fields.get(f"winner:{boxes[0].attempt}".encode(), b"")
    return next((part for part in boxes if part.box.encode() == winner), boxes[-1])


def _new_lines(attempt: int, place: Place, lost: bytes | None, chunks: list[bytes]) -> Iterator[LogLine]:
    """Yield what was not read yet, and go on to the place behind it."""
    if lost is not None and LOST.fullmatch(lost):
        sequence, at_ns, lost_bytes = (int(number) for number in lost.split())
        if sequence >= place.wanted:
            place.wanted = sequence + 1
            yield LogLine(attempt, sequence, at_ns, "gap", msgspec.json.encode(Gap(bytes=lost_bytes, reason=TRIMMED)))
    for chunk in chunks:
        for line in decode(attempt, chunk):
            if line.sequence >= place.wanted:
                place.wanted = line.sequence + 1
                yield line


def _entry(name: bytes) -> tuple[int, int]:
    """Read the name of a stream's entry, which orders it; an empty one is before all."""
    time, _, number = (name or b"0-0").partition(b"-")
    return int(time), int(number)
