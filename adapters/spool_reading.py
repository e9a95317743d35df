"""
Reads a job's log from a position, over all of its attempts and their parts, without beginning at the start each time.

Where each reader goes on is remembered by its position; one that is not known costs a scan of one segment.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import msgspec

from adapters.files import explained
from adapters.spool_frames import GAP, OUTPUT, Frame, frames
from adapters.spool_members import archived
from adapters.spool_parts import Kind, Part, attempts_in, head_of, parts_from
from adapters.spool_tally import gap_of_stream
from runner.job import Key
from runner.ports import Gap, LogLine, Position

REMEMBERED_MAX = 1024
NOTHING: Mapping[str, int] = {}
_ENCODE = msgspec.json.Encoder().encode
_DECODE = msgspec.json.Decoder(Gap).decode
_UNKNOWN = Gap(reason="its middle was dropped while it was read")
_DAMAGED = _ENCODE(Gap(reason="what stood here cannot be read"))


class PartGoneError(Exception):
    """A part was dropped or shed since the directory was looked at: look again."""


class Place(msgspec.Struct, frozen=True):
    """
    Record ``sequence`` begins at ``offset`` of a file, ``bytes`` after the start of its attempt.

    Before it stand so many bytes and lines of stdout and stderr, or are told as missing of one of them; None where
    lines were not counted.
    """

    path: str
    sequence: int
    offset: int
    bytes: int
    printed_bytes: int
    lines: int | None


class Stretch(msgspec.Struct, frozen=True):
    """One attempt's parts, of which the records from ``wanted`` on are read; ``place`` where that is known."""

    attempt: int
    parts: tuple[Part, ...]
    wanted: int
    place: Place | None = None


class Places:
    """Places of records that were read up to, at most 1,024 of all logs together."""

    def __init__(self) -> None:
        self._places: OrderedDict[tuple[Key, Position], Place] = OrderedDict()

    def find(self, key: Key, position: Position) -> Place | None:
        """Return the place of this record where it is known."""
        return self._places.get((key, position))

    def keep(self, key: Key, position: Position, place: Place) -> None:
        """Remember where a record begins."""
        self._places[key, position] = place
        self._places.move_to_end((key, position))
        if len(self._places) > REMEMBERED_MAX:
            self._places.popitem(last=False)

    def forget(self, key: Key) -> None:
        """Drop what is known of a log."""
        for place in [place for place in self._places if place[0] == key]:
            del self._places[place]


class Walk:
    """
    A way through the records of one attempt; iterating yields sequences and frames from ``wanted`` on.

    ``opened`` has the descriptors of files that are open already, by path. Blocking.

    Raises:
        PartGoneError: a part is not there any more.
        Unavailable: it cannot be read.
    """

    def __init__(self, stretch: Stretch, opened: Mapping[str, int] = NOTHING) -> None:
        self._stretch = stretch
        self._opened = opened
        # The next record, and where it begins.
        self.sequence = 0
        self._path = ""
        self._offset = 0
        self.bytes = 0
        self._printed_bytes = 0
        self._printed_lines: int | None = None

    @property
    def place(self) -> Place | None:
        """Where the next record begins; None where nothing stands yet."""
        if not self._path:
            return None
        return Place(self._path, self.sequence, self._offset, self.bytes, self._printed_bytes, self._printed_lines)

    def count(self, stream: str, data: bytes) -> None:
        """Count the lines of a record that was yielded, for the place behind it."""
        if self._printed_lines is None:
            return
        if stream in OUTPUT:
            self._printed_lines += data.count(b"\n")
        elif stream == GAP and (gap := gap_of_stream(data)) is not None:
            self._printed_lines += gap.lines or 0

    def __iter__(self) -> Iterator[tuple[int, Frame]]:
        parts = parts_from(self._stretch.parts, self._stretch.wanted)
        for part, following in zip(parts, (*parts[1:], None), strict=True):
            until = following.first if following is not None else None
            with explained("reading a log", part.path):
                yield from self._part(part, until)
            if following is not None and self.sequence < following.first:
                self._check_standing(part, following)
                self.sequence = following.first
                yield self.sequence - 1, Frame(0, GAP, _DAMAGED)

    def _part(self, part: Part, until: int | None) -> Iterator[tuple[int, Frame]]:
        with _readable(part.path, self._opened) as descriptor:
            match part.kind:
                case Kind.SEGMENT:
                    yield from self._segment(part, descriptor, until)
                case Kind.HOLE:
                    yield from self._hole(part, descriptor)
                case Kind.ARCHIVE:
                    yield from self._archive(part, descriptor)

    def _segment(self, part: Part, descriptor: int, until: int | None) -> Iterator[tuple[int, Frame]]:
        if not self._enter(part, descriptor):
            return
        wanted = self._stretch.wanted
        for frame in frames(descriptor, self._offset):
            if self.sequence == until:
                return
            sequence = self.sequence
            self.sequence, self._offset = sequence + 1, frame.end
            size = frame.size
            self.bytes += size
            if frame.stream in OUTPUT:
                self._printed_bytes += size
            elif frame.stream == GAP and (gap := gap_of_stream(frame.data)) is not None:
                self._printed_bytes += gap.bytes or 0
            if sequence >= wanted:
                yield sequence, frame
            else:
                self._printed_lines = None

    def _hole(self, part: Part, descriptor: int) -> Iterator[tuple[int, Frame]]:
        self._enter(part, descriptor)
        frame = next(frames(descriptor, self._offset))
        gap = _DECODE(frame.data)
        self.sequence = part.end
        rest = self._rest_of(gap) if self._stretch.wanted > part.first else gap
        self._printed_bytes += gap.bytes or 0
        self._printed_lines = (self._printed_lines or 0) + (gap.lines or 0)
        if self._stretch.wanted < part.end:
            yield part.end - 1, frame._replace(stored=_ENCODE(rest))

    def _rest_of(self, gap: Gap) -> Gap:
        """Return what is missing behind the wanted record, which lies in a hole; unknown to whoever comes anew."""
        place = self._stretch.place
        if place is None or gap.bytes is None or gap.lines is None:
            return _UNKNOWN
        lines = None
        if place.lines is not None and self._printed_lines is not None:
            lines = self._printed_lines + gap.lines - place.lines
        return Gap(bytes=self._printed_bytes + gap.bytes - place.printed_bytes, lines=lines)

    def _check_standing(self, part: Part, following: Part) -> None:
        """See whether records are missing between two parts because one was split since the directory was read."""
        now = attempts_in(os.path.dirname(part.path)).get(self._stretch.attempt, ())
        between = [other for other in now if part.first < other.first < following.first]
        if between or part not in now or following not in now:
            raise PartGoneError(part.path)

    def _archive(self, part: Part, descriptor: int) -> Iterator[tuple[int, Frame]]:
        place = self._stretch.place
        offset = place.offset if place is not None and place.path == part.path else 0
        self._path = part.path
        for member in archived(descriptor, self._stretch.wanted, offset):
            self._offset = member.offset
            for sequence, frame in member.records:
                is_inside = frame.stream == GAP and self.sequence < self._stretch.wanted < sequence
                self.sequence = sequence + 1
                if sequence >= self._stretch.wanted:
                    yield sequence, frame._replace(stored=_ENCODE(_UNKNOWN)) if is_inside else frame

    def _enter(self, part: Part, descriptor: int) -> bool:
        place = self._stretch.place
        if place is not None and place.path == part.path:
            self.sequence, self._offset, self.bytes = place.sequence, place.offset, place.bytes
            self._printed_bytes, self._printed_lines = place.printed_bytes, place.lines
        elif (head := head_of(descriptor)) is not None:
            self.sequence, self._offset, self.bytes = part.first, head.offset, head.before.all_bytes
            self._printed_bytes, self._printed_lines = head.before.printed_bytes, head.before.printed_lines
        else:
            return False
        self._path = part.path
        return True


def read_stretches(
    stretches: list[Stretch], limit_bytes: int, opened: Mapping[str, int] = NOTHING
) -> tuple[list[LogLine], dict[Position, Place]]:
    """Read records in order up to about so many bytes; return them and the places that were reached. Blocking."""
    lines: list[LogLine] = []
    places: dict[Position, Place] = {}
    for stretch in stretches:
        walk = Walk(stretch, opened)
        for sequence, frame in walk:
            data = frame.data
            walk.count(frame.stream, data)
            lines.append(LogLine(stretch.attempt, sequence, frame.at_ns, frame.stream, data))
            limit_bytes -= len(data)
            if limit_bytes <= 0:
                break
        if (place := walk.place) is not None:
            places[Position(stretch.attempt, walk.sequence)] = place
        if limit_bytes <= 0:
            break
    return lines, places


@contextmanager
def _readable(path: str, opened: Mapping[str, int]) -> Iterator[int]:
    if path in opened:
        yield opened[path]
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise PartGoneError(path) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)
