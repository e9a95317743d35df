"""How much stands in an attempt's log, all of it or behind a record, told from the heads of its parts; blocking."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise

from adapters.files import explained
from adapters.spool_frames import frames
from adapters.spool_members import sizes
from adapters.spool_parts import Kind, Part, head_of, load_head, parts_from, with_heads
from adapters.spool_reading import PartGoneError, Stretch, Walk
from adapters.spool_tally import Tally


def tally_of(parts: tuple[Part, ...]) -> Tally:
    """Count what was written to an attempt that is not open here, by reading its last segment."""
    tally = Tally()
    if not parts:
        return tally
    if parts[-1].kind is Kind.ARCHIVE:
        for _, frame in Walk(Stretch(0, parts, 0)):
            tally.add(frame.stream, frame.data)
        return tally
    with explained("reading a log", parts[-1].path):
        try:
            return _tally_of_last(with_heads(parts)[-1])
        except FileNotFoundError as error:
            raise PartGoneError(parts[-1].path) from error


def bytes_behind(stretch: Stretch, end_bytes: int) -> int:
    """Tell how much stands from ``stretch.wanted`` on of an attempt to which ``end_bytes`` were written."""
    parts = parts_from(stretch.parts, stretch.wanted)
    if not parts:
        return 0
    if parts[0].kind is Kind.ARCHIVE:
        return _archived_behind(stretch)
    start = _bytes_before(parts[0]) if parts[0].kind is Kind.HOLE else _start(stretch)
    return max(0, end_bytes - start - _dropped(parts))


def record_near_end(stretch: Stretch, end_bytes: int, size_bytes: int) -> int:
    """Return the first record behind which at most so much stands."""
    parts = stretch.parts
    if parts[0].kind is Kind.ARCHIVE:
        return _archived_near_end(stretch, size_bytes)
    for place in range(len(parts) - 1, -1, -1):
        part, start = parts[place], _bytes_before(parts[place])
        if part.kind is Kind.SEGMENT and end_bytes - start > size_bytes:
            return _record_at(Stretch(stretch.attempt, parts[place : place + 2], part.first), end_bytes - size_bytes)
        size_bytes -= end_bytes - start if part.kind is Kind.SEGMENT else 0
        end_bytes = start
    return 0


def _tally_of_last(part: Part) -> Tally:
    descriptor = os.open(part.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        head = head_of(descriptor)
        if head is None:
            return Tally()
        for frame in frames(descriptor, head.offset):
            head.before.add(frame.stream, frame.data)
        return head.before
    finally:
        os.close(descriptor)


def _bytes_before(part: Part) -> int:
    with explained("reading a log", part.path):
        try:
            head = load_head(part)
        except FileNotFoundError as error:
            raise PartGoneError(part.path) from error
    return 0 if head is None else head.before.all_bytes


def _start(stretch: Stretch) -> int:
    """Return how much was written before a record that is in a segment."""
    place, part = stretch.place, parts_from(stretch.parts, stretch.wanted)[0]
    if place is not None and place.path == part.path:
        return place.bytes
    walk = Walk(Stretch(stretch.attempt, (part,), stretch.wanted))
    for _, frame in walk:
        return walk.bytes - frame.size
    return walk.bytes


def _dropped(parts: Sequence[Part]) -> int:
    return sum(_bytes_before(after) - _bytes_before(part) for part, after in pairwise(parts) if part.kind is Kind.HOLE)


def _record_at(stretch: Stretch, target_bytes: int) -> int:
    """Return the first record of a segment before which at least so much was written."""
    walk = Walk(stretch)
    for sequence, frame in walk:
        if walk.bytes - frame.size >= target_bytes:
            return sequence
    return walk.sequence


def _archived_behind(stretch: Stretch) -> int:
    firsts = _firsts(stretch.parts[0])
    later = [size for first, size in firsts if first > stretch.wanted]
    upto = min((first for first, _ in firsts if first > stretch.wanted), default=None)
    here = 0
    for sequence, frame in Walk(stretch):
        if upto is not None and sequence >= upto:
            break
        here += frame.size
    return here + sum(later)


def _archived_near_end(stretch: Stretch, size_bytes: int) -> int:
    firsts = _firsts(stretch.parts[0])
    while len(firsts) > 1 and firsts[-1][1] <= size_bytes:
        size_bytes -= firsts.pop()[1]
    first, size = firsts[-1]
    walk = Walk(Stretch(stretch.attempt, stretch.parts, first))
    for sequence, frame in walk:
        if size <= size_bytes:
            return sequence
        size -= frame.size
    return walk.sequence


def _firsts(part: Part) -> list[tuple[int, int]]:
    with explained("reading an archive of a log", part.path), open(part.path, "rb", buffering=0) as file:
        return list(sizes(file.fileno()))
