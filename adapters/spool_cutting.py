"""
Drops the middle of an attempt's log: whole segments, after splitting those that are too large for what is to be kept.

A hole is made by one renaming, and then the segments in it are deleted; a kill between the two costs nothing, since
what begins in a hole is not there any more for anybody. Blocking.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec

from adapters.files import explained
from adapters.spool_file import SEGMENT_BYTES, SpoolFile
from adapters.spool_frames import GAP, encode, frames
from adapters.spool_parts import Kind, Part, delete_covered, head_of, load_head, put_part, segment_path
from adapters.spool_tally import Tally
from runner.ports import Gap

LEAST_BYTES = 4 << 10
"""Less than that is not worth a hole."""
SPLIT_MAX_BYTES = 64 << 20
"""The whole logs in one file that an earlier version wrote may be larger; those stay as they are."""
CUT_SUFFIX = ".cut"
_ENCODE = msgspec.json.Encoder().encode


class _Span(msgspec.Struct, frozen=True):
    """A part, and what was written before it and before the next one."""

    part: Part
    before: Tally
    after: Tally


def begin_dropping(file: SpoolFile, head_bytes: int, tail_bytes: int) -> bool:
    """Make the segments to come fit what is to be kept, and tell whether there is anything to drop now."""
    file.segment_bytes = _grain(tail_bytes)
    return file.tally.all_bytes - head_bytes - tail_bytes >= file.segment_bytes


def drop_middle(file: SpoolFile, head_bytes: int, tail_bytes: int) -> int:
    """Leave about the first and the last so many bytes of a log; return how much of stdout and stderr went."""
    grain = _grain(tail_bytes)
    with explained("dropping the middle of a log", file.path):
        file.rotate(2 * grain)
        end_bytes = _boundary(file, file.tally.all_bytes - tail_bytes, least_bytes=2 * grain)
        start_bytes = _boundary(file, head_bytes, is_head=True)
        middle = _middle(file, start_bytes, end_bytes)
        return _dropped(file, middle) if any(span.part.kind is Kind.SEGMENT for span in middle) else 0


def _grain(tail_bytes: int) -> int:
    return min(max(tail_bytes // 4, LEAST_BYTES), SEGMENT_BYTES)


def _spans(file: SpoolFile) -> list[_Span]:
    """Return all parts but the last, which is being written."""
    parts = file.parts
    befores = [_before(part) for part in parts]
    return [_Span(*each) for each in zip(parts[:-1], befores[:-1], befores[1:], strict=True)]


def _before(part: Part) -> Tally:
    head = load_head(part)
    return Tally() if head is None else head.before


def _middle(file: SpoolFile, start_bytes: int, end_bytes: int) -> list[_Span]:
    spans = _spans(file)
    inside = [
        place
        for place, span in enumerate(spans)
        if span.before.all_bytes >= start_bytes and span.after.all_bytes <= end_bytes
    ]
    if not inside:
        return []
    first, last = inside[0], inside[-1]
    # Holes side by side become one.
    first -= first > 0 and spans[first - 1].part.kind is Kind.HOLE
    last += last + 1 < len(spans) and spans[last + 1].part.kind is Kind.HOLE
    return spans[first : last + 1]


def _dropped(file: SpoolFile, middle: Sequence[_Span]) -> int:
    first, last = middle[0], middle[-1]
    following = file.parts[[part.path for part in file.parts].index(last.part.path) + 1]
    gap = Gap(
        bytes=last.after.printed_bytes - first.before.printed_bytes,
        lines=last.after.printed_lines - first.before.printed_lines,
    )
    path = segment_path(file.directory, file.attempt, first.part.first, following.first)
    put_part(path, first.before.header() + encode(_time_of(following), GAP, _ENCODE(gap), file.packer), CUT_SUFFIX)
    file.relist()
    delete_covered(file.directory, file.attempt)
    return sum(span.after.output_bytes - span.before.output_bytes for span in middle if span.part.kind is Kind.SEGMENT)


def _time_of(part: Part) -> int:
    """Return when the first record of a part was written; 0 where it has none yet."""
    descriptor = os.open(part.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        head = head_of(descriptor)
        found = next(frames(descriptor, head.offset), None) if head is not None else None
        return 0 if found is None else found.at_ns
    finally:
        os.close(descriptor)


def _boundary(file: SpoolFile, at_bytes: int, *, least_bytes: int = 0, is_head: bool = False) -> int:
    """
    Let a segment begin with the record that reaches over so many bytes, and return how much was written before it.

    A segment that is too small or too large for that stays whole, and is kept.
    """
    for span in _spans(file):
        size = span.after.all_bytes - span.before.all_bytes
        if span.before.all_bytes < at_bytes < span.after.all_bytes:
            if span.part.kind is Kind.HOLE:
                return span.before.all_bytes
            if least_bytes < size < SPLIT_MAX_BYTES:
                return _split(file, span, at_bytes)
            return span.after.all_bytes if is_head else span.before.all_bytes
    return at_bytes


def _split(file: SpoolFile, span: _Span, at_bytes: int) -> int:
    descriptor = os.open(span.part.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        head = head_of(descriptor)
        if head is None:
            return span.before.all_bytes
        tally, offset = head.before, head.offset
        for frame in frames(descriptor, head.offset):
            if tally.all_bytes + frame.size > at_bytes:
                break
            tally.add(frame.stream, frame.data)
            offset = frame.end
        if tally.records > span.before.records:
            rest = os.pread(descriptor, os.fstat(descriptor).st_size - offset, offset)
            put_part(segment_path(file.directory, file.attempt, tally.records), tally.header() + rest, CUT_SUFFIX)
            file.relist()
            os.ftruncate(descriptor, offset)
        return tally.all_bytes
    finally:
        os.close(descriptor)
