"""Which part of a job's log is asked for: streams, since when, how many of the last lines."""

from __future__ import annotations

import argparse
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

import msgspec

from runner.cli.gap_text import gap_of
from runner.ports import LogLine
from runner.receipt import Event
from runner.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.cli.parser import Parser

Told = LogLine | Event
STREAMS = ("stdout", "stderr", "runner")
LINE_MAX_BYTES = 16 << 20
"""A line that is longer without an end is told in pieces of that size."""


class Choice(msgspec.Struct, frozen=True):
    """What is wanted of a log; ``tail`` None: all of it."""

    streams: frozenset[str] = frozenset(STREAMS)
    since_ns: int = 0
    tail: int | None = None

    def wants(self, told: Told) -> bool:
        """Tell whether this is to be shown. A record that has no time may be of any; state changes of no stream."""
        if isinstance(told, Event):
            return len(self.streams) == len(STREAMS) and told.at * 1e9 >= self.since_ns
        if 0 < told.at_ns < self.since_ns:
            return False
        return told.stream in self.streams or (told.stream == "gap" and self._wants_gap(told))

    def _wants_gap(self, line: LogLine) -> bool:
        of = gap_of(line).stream
        return of in self.streams if of else not self.streams.isdisjoint({"stdout", "stderr"})


def add_choice(parser: Parser) -> None:
    """Add the options that choose."""
    parser.add_argument(
        "--since", metavar="WHEN", type=_since_ns, help="only what came since: a duration, like 10m, or a time"
    )
    parser.add_argument("--tail", metavar="N", type=_count, help="only the last N lines; --follow goes on from there")
    parser.add_argument(
        "--stream", choices=STREAMS, action="append", metavar="NAME", help="only this stream; may be given again"
    )


def choice_of(args: argparse.Namespace) -> Choice:
    """Return what the options choose."""
    return Choice(frozenset(args.stream or STREAMS), args.since or 0, args.tail)


def _since_ns(text: str) -> int:
    try:
        return int((time.time() - parse_duration(text)) * 1e9)
    except ValueError:
        pass
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1e9)
    except (ValueError, OverflowError, OSError):
        wanted = "write a duration, like 10m or 1h30m, or a time, like 2026-03-01T14:00 or 2026-03-01T13:00:00Z"
        raise argparse.ArgumentTypeError(f"{text!r} is neither: {wanted}") from None


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of lines: write a whole one from 0 up")
    return int(text)


class LastLines:
    """
    The last lines of a log whose end is not known yet, as pieces of records.

    Holds no more than those lines, and what is begun in each stream, up to 16 MiB of it. A state change goes with the
    line before it.
    """

    def __init__(self, count: int) -> None:
        """Keep so many lines."""
        self._count = count
        self._lines: deque[_Line] = deque(maxlen=count)
        # By attempt and stream: the line that has no end yet.
        self._begun: dict[tuple[int, str], _Line] = {}
        self._taken = 0

    def add(self, told: Told) -> None:
        """Take the next record."""
        self._taken += 1
        if isinstance(told, LogLine):
            for data in _last_pieces(told.data, self._count):
                self._add_piece(told, data)
        elif self._lines:
            self._lines[-1].pieces.append((self._taken, told, b""))

    def _add_piece(self, record: LogLine, data: bytes) -> None:
        place = (record.attempt, record.stream)
        line = self._begun.pop(place, None)
        if line is None or line.size_bytes > LINE_MAX_BYTES:
            line = _Line()
            self._lines.append(line)
        line.pieces.append((self._taken, record, data))
        line.size_bytes += len(data)
        if not data.endswith(b"\n") and record.stream != "gap":
            self._begun[place] = line

    def told(self) -> Iterator[Told]:
        """Yield what is kept in the order in which it came, what is left of a record as one."""
        pieces = sorted((piece for line in self._lines for piece in line.pieces), key=itemgetter(0))
        for _, group in groupby(pieces, key=itemgetter(0)):
            (_, told, first), *others = group
            if isinstance(told, LogLine):
                yield msgspec.structs.replace(told, data=b"".join((first, *(data for _, _, data in others))))
            else:
                yield told


@dataclass
class _Line:
    """Pieces of one line: by which record of all that came, that record, and its part of the line."""

    pieces: list[tuple[int, Told, bytes]] = field(default_factory=list)
    size_bytes: int = 0


def _last_pieces(data: bytes, count: int) -> list[bytes]:
    """Cut a record behind its line ends; what cannot be among the last lines stays one piece with what is before it."""
    parts = data.rsplit(b"\n", count + 1)
    pieces = [part + b"\n" for part in parts[:-1]]
    return [*pieces, parts[-1]] if parts[-1] else pieces
