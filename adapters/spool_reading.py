"""
Reads a job's log from a position, over all of its attempts, without beginning at the start each time.

Where each reader goes on is remembered by its position; one that is not known costs a scan of that attempt's file.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import msgspec

from adapters.files import explained, names_in
from adapters.spool_frames import MAGIC, frames
from runner.job import Key
from runner.ports import LogLine, Position

REMEMBERED_MAX = 1024
NOTHING: Mapping[str, int] = {}
SPOOL_SUFFIX = ".spool"


class Stretch(msgspec.Struct, frozen=True):
    """One attempt's file up to ``end``; record ``known`` begins at ``offset``, those from ``wanted`` on are read."""

    attempt: int
    path: str
    wanted: int
    known: int
    offset: int
    end: int


class Places:
    """Offsets of records that were read up to, at most 1,024 of all logs together."""

    def __init__(self) -> None:
        self._offsets: OrderedDict[tuple[Key, Position], int] = OrderedDict()

    def find(self, key: Key, position: Position) -> int | None:
        """Return the offset of this record where it is known."""
        return self._offsets.get((key, position))

    def keep(self, key: Key, position: Position, offset: int) -> None:
        """Remember where a record begins."""
        self._offsets[key, position] = offset
        self._offsets.move_to_end((key, position))
        if len(self._offsets) > REMEMBERED_MAX:
            self._offsets.popitem(last=False)

    def forget(self, key: Key) -> None:
        """Drop what is known of a log."""
        for place in [place for place in self._offsets if place[0] == key]:
            del self._offsets[place]


def attempts_in(directory: str) -> list[int]:
    """Return the numbers of the attempts that have a spool in a directory, sorted."""
    return sorted(int(name.removesuffix(SPOOL_SUFFIX)) for name in names_in(directory) if name.endswith(SPOOL_SUFFIX))


def read_stretches(
    stretches: list[Stretch], limit_bytes: int, opened: Mapping[str, int] = NOTHING
) -> tuple[list[LogLine], dict[Position, int]]:
    """
    Read records in order up to about so many bytes; return them and the places that were reached. Blocking.

    ``opened`` has the descriptors of files that are open already, by path.
    """
    lines: list[LogLine] = []
    places: dict[Position, int] = {}
    for stretch in stretches:
        with explained("reading a log", stretch.path):
            limit_bytes, place, offset = _read_stretch(stretch, limit_bytes, lines, opened)
        places[place] = offset
        if limit_bytes <= 0:
            break
    return lines, places


def _read_stretch(
    stretch: Stretch, limit_bytes: int, lines: list[LogLine], opened: Mapping[str, int]
) -> tuple[int, Position, int]:
    sequence, offset = stretch.known, stretch.offset
    if offset < stretch.end or not offset:
        with _readable(stretch.path, opened) as descriptor:
            for frame in frames(descriptor, offset, stretch.end):
                if sequence >= stretch.wanted:
                    lines.append(LogLine(stretch.attempt, sequence, frame.at_ns, frame.stream, frame.data))
                    limit_bytes -= len(frame.data)
                sequence, offset = sequence + 1, frame.end
                if limit_bytes <= 0:
                    break
    return limit_bytes, Position(stretch.attempt, sequence), offset or len(MAGIC)


@contextmanager
def _readable(path: str, opened: Mapping[str, int]) -> Iterator[int]:
    if path in opened:
        yield opened[path]
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
