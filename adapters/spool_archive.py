"""
What is left when an attempt's log is complete: the archive, and the mark that it is.

Unpacking an archive gives the bytes that the receipt's digest is of. It has no name and no time of its own, so equal
logs of equal times give equal archives.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from adapters.files import explained, remove_file, write_all, write_whole
from adapters.spool_file import SpoolFile
from adapters.spool_frames import OUTPUT, Packer
from adapters.spool_measuring import tally_of
from adapters.spool_members import MemberWriter, archived, has_tables
from adapters.spool_parts import attempts_in
from adapters.spool_reading import Stretch, Walk
from adapters.spool_tally import Tally
from runner.errors import Refused
from runner.ports import LogLine, Position, SpoolSeal

PLAIN_BYTES = 64 << 10


class Mark(SpoolSeal, frozen=True):
    """
    What stands in the file that says that an attempt is sealed: the seal, and how much is over, by stream.

    ``all_bytes`` were appended, which what a gap names was not.
    """

    written: dict[str, int] | None = None
    all_bytes: int | None = None


_ENCODE = msgspec.json.Encoder().encode
_DECODE = msgspec.json.Decoder(Mark).decode


class Sealing(msgspec.Struct, frozen=True):
    """What is to be sealed, and where to; ``tally`` is known where the spool was open."""

    directory: str
    attempt: int
    archive: str
    mark: str
    tally: Tally | None = None


def seal_attempt(it: Sealing) -> SpoolSeal:
    """
    Write the archive of a spool, then the mark; each appears whole. Blocking, in one pass over the spool.

    An attempt that wrote nothing gets an empty spool.

    Raises:
        OutOfSpace: the disk is full; nothing is left behind.
    """
    if (parts := attempts_in(it.directory).get(it.attempt)) is None:
        SpoolFile(it.directory, it.attempt, Packer()).close()
        parts = attempts_in(it.directory)[it.attempt]
    output = _Output(Stretch(it.attempt, parts, 0))
    with explained("writing the archive of a log", it.archive):
        _put(it.archive, output.members())
        mark = output.mark(it.archive, it.tally or tally_of(parts))
        named = msgspec.structs.replace(mark, archive=os.path.basename(it.archive))
        write_whole(it.mark, _ENCODE(named), durable=False)
    return _seal(mark)


def load_seal(mark: str) -> SpoolSeal | None:
    """Read the mark of a sealed attempt; None where it is not sealed."""
    found = load_mark(mark)
    return None if found is None else _seal(found)


def load_mark(mark: str) -> Mark | None:
    """Read the mark of a sealed attempt with what was written; None where it is not sealed."""
    try:
        with open(mark, "rb") as file:
            found = _DECODE(file.read())
    except FileNotFoundError:
        return None
    return msgspec.structs.replace(found, archive=os.path.join(os.path.dirname(mark), found.archive))


def read_archive(path: str, position: Position, limit_bytes: int = 1 << 20) -> tuple[LogLine, ...]:
    """
    Read the records of an archive from a position, at most about so many bytes; () at the end. Blocking.

    ``position.attempt`` is whose archive it is, which it does not say itself.
    """
    lines: list[LogLine] = []
    for line in archive_lines(path, position):
        lines.append(line)
        limit_bytes -= len(line.data)
        if limit_bytes <= 0:
            break
    return tuple(lines)


def archive_lines(path: str, position: Position) -> Iterator[LogLine]:
    """
    Yield the records of an archive from a position to its end, with little memory. Blocking.

    One of an earlier version, or of another program, is stdout in pieces of 64 KiB without times.

    Raises:
        Refused: it is damaged.
        Unavailable: it cannot be read.
    """
    with explained("reading an archive of a log", path), open(path, "rb", buffering=0) as file:
        if not has_tables(file.fileno()):
            yield from _plain(path, position)
            return
        for member in archived(file.fileno(), position.sequence):
            for sequence, frame in member.records:
                if sequence >= position.sequence:
                    yield LogLine(position.attempt, sequence, frame.at_ns, frame.stream, frame.stored)


def is_complete(archive: str) -> bool:
    """Tell whether an archive holds all that its spool does; those of earlier versions do not."""
    with open(archive, "rb", buffering=0) as file:
        return has_tables(file.fileno())


class _Output:
    """A log on its way into its archive, counted and hashed as it passes."""

    def __init__(self, stretch: Stretch) -> None:
        self._walk = Walk(stretch)
        self._tally = Tally()
        self._digest = hashlib.sha256()

    def members(self) -> Iterator[bytes]:
        writer = MemberWriter()
        for sequence, frame in self._walk:
            data = frame.data
            self._tally.add(frame.stream, data)
            for member, output in writer.add(sequence, frame.at_ns, frame.stream, data):
                self._digest.update(output)
                yield member
        member, output = writer.finish()
        self._digest.update(output)
        yield member

    def mark(self, archive: str, all_of_it: Tally) -> Mark:
        tally, digest = self._tally, f"sha256:{self._digest.hexdigest()}"
        counts = all_of_it.passed, all_of_it.all_bytes
        return Mark(tally.lines, tally.output_bytes, digest, archive, tally.gaps, *counts)


def _seal(mark: Mark) -> SpoolSeal:
    return SpoolSeal(mark.lines, mark.bytes, mark.sha256, mark.archive, mark.gaps)


def _plain(path: str, position: Position) -> Iterator[LogLine]:
    with _told_if_damaged(path), gzip.open(path) as packed:
        pieces = iter(lambda: packed.read(PLAIN_BYTES), b"")
        for sequence, data in enumerate(pieces):
            if sequence >= position.sequence:
                yield LogLine(position.attempt, sequence, 0, OUTPUT[0], data)


@contextmanager
def _told_if_damaged(path: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Refused(f"cannot read the archive {path}: it is damaged: {error}") from error


def _put(path: str, parts: Iterator[bytes]) -> None:
    temporary = f"{path}.new"
    try:
        with open(temporary, "wb", buffering=0) as file:
            for part in parts:
                write_all(file.fileno(), part)
        os.rename(temporary, path)
    except BaseException:
        remove_file(temporary)
        raise
