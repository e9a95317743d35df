"""
Of which files an attempt's log consists.

    1.spool            its first segment; one of an earlier version holds all of the attempt
    1.4217.spool       the segment that begins with record 4217
    1.300-4217.spool   a hole: what was dropped, told by one record of stream ``gap``
    1.log.gz           its archive, which is read once the segments are gone

A segment or a hole ends where the next part begins, whatever stands behind that in its file, and a part that begins
inside a hole is not there any more. So each step of splitting and dropping is one renaming.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from enum import Enum

import msgspec

from adapters.files import names_in, remove_file, write_new
from adapters.spool_tally import HEADER, MAGIC, Tally, load_tally
from runner.errors import ConfigurationError

SPOOL_SUFFIX = ".spool"
ARCHIVE_SUFFIX = ".log.gz"
_NAME = re.compile(r"(\d+)(?:\.(\d+)(?:-(\d+))?)?\.spool|(\d+)\.log\.gz")
_OLD_MAGIC = b"RSPOOL\x00\x01"


class Kind(Enum):
    """What a file holds."""

    SEGMENT = "segment"
    HOLE = "hole"
    ARCHIVE = "archive"


class Part(msgspec.Struct, frozen=True):
    """A file that holds the records from ``first`` on; up to ``end`` where it is a hole."""

    path: str
    kind: Kind
    first: int = 0
    end: int = 0


class Head(msgspec.Struct, frozen=True):
    """What stands before a segment, and where its frames begin."""

    before: Tally
    offset: int
    is_old: bool = False


def attempts_in(directory: str) -> dict[int, tuple[Part, ...]]:
    """Return the parts that stand for each attempt with a log in a directory, in order."""
    found = _files_in(directory)
    return {attempt: standing(found[attempt]) for attempt in sorted(found)}


def delete_covered(directory: str, attempt: int) -> None:
    """Delete what lies in a hole, which a kill may have left there."""
    files = [part for part in _files_in(directory).get(attempt, ()) if part.kind is not Kind.ARCHIVE]
    for part in set(files) - set(standing(files)):
        remove_file(part.path)


def delete_records(directory: str, attempt: int) -> None:
    """Delete all but the archive; the first goes first, and from then on the archive is what stands."""
    files = [part for part in _files_in(directory).get(attempt, ()) if part.kind is not Kind.ARCHIVE]
    for part in sorted(files, key=lambda part: part.first):
        remove_file(part.path)


def _files_in(directory: str) -> dict[int, list[Part]]:
    attempts: dict[int, list[Part]] = {}
    for name in names_in(directory):
        if (found := _NAME.fullmatch(name)) is not None:
            attempt, first, end, archived = found.groups()
            kind = Kind.ARCHIVE if archived else Kind.HOLE if end else Kind.SEGMENT
            part = Part(os.path.join(directory, name), kind, int(first or 0), int(end or 0))
            attempts.setdefault(int(attempt or archived), []).append(part)
    return attempts


def standing(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Leave out what lies in a hole, and the archive while the records are whole beside it."""
    archives = [part for part in parts if part.kind is Kind.ARCHIVE]
    held: list[Part] = []
    hole_end = 0
    for part in sorted(parts, key=lambda part: (part.first, -part.end)):
        if part.kind is Kind.ARCHIVE or part.first < hole_end:
            continue
        hole_end = max(hole_end, part.end)
        held.append(part)
    if archives and (not held or held[0].first):
        return (archives[0],)
    return tuple(held)


def parts_from(parts: Sequence[Part], sequence: int) -> Sequence[Part]:
    """Return the part that has a record, and those behind it."""
    return parts[max(0, bisect_right(parts, sequence, key=lambda part: part.first) - 1) :]


def segment_path(directory: str, attempt: int, first: int, end: int = 0) -> str:
    """Return the path of a segment, or of a hole, by its first record."""
    span = f".{first}-{end}" if end else f".{first}" if first else ""
    return os.path.join(directory, f"{attempt}{span}{SPOOL_SUFFIX}")


def put_part(path: str, content: bytes, suffix: str = ".next") -> None:
    """
    Write a part so that it appears whole; what a kill leaves of it is overwritten by the next one.

    Whoever may do so while somebody else does needs a suffix of its own.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name.partition('.')[0]}{suffix}")
    remove_file(temporary)
    try:
        write_new(temporary, content, durable=False)
        os.rename(temporary, path)
    except BaseException:
        remove_file(temporary)
        raise


def head_of(descriptor: int) -> Head | None:
    """
    Read the head of a segment or a hole; None where there is none yet: it was cut short, or zeros stand there.

    Raises:
        ConfigurationError: this is no spool of this version or the one before.
    """
    header = os.pread(descriptor, HEADER.size, 0)
    if header[: len(_OLD_MAGIC)] == _OLD_MAGIC:
        return Head(Tally(), len(_OLD_MAGIC), is_old=True)
    if not header.strip(b"\x00") or (len(header) < HEADER.size and header[: len(MAGIC)] == MAGIC[: len(header)]):
        return None
    if len(header) == HEADER.size and (before := load_tally(header)) is not None:
        return Head(before, HEADER.size)
    raise ConfigurationError(
        f"cannot read a log that begins with {header[:8]!r}: another version of the runner wrote it, or it is damaged"
    )


def load_head(part: Part) -> Head | None:
    """Read the head of a part that is not open."""
    descriptor = os.open(part.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return head_of(descriptor)
    finally:
        os.close(descriptor)


def with_heads(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """Leave out segments at the end that have no head, as a power cut leaves them."""
    while len(parts) > 1 and parts[-2].kind is Kind.SEGMENT and load_head(parts[-1]) is None:
        parts = parts[:-1]
    return parts
