"""
The archive's format: gzip members, each with the table of its records in its header's FEXTRA field.

Unpacking the file gives stdout and stderr in spool order; the tables give the records back, and hold the text of all
other streams. A member says how long it is, so that a reader finds a record by hopping over heads.

    FEXTRA  "RL" | u16 length | u8 version | u64 first record that begins here | u32 bytes of this member
            | u32 bytes unpacked | u32 bytes of the records that begin here | packed table
    table   zlib of msgpack: by record, steps of sequence, steps of time, streams, lengths; the other streams' text

A text longer than 16 KiB is cut; its pieces have the same sequence, also over members.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator

import msgspec

from adapters.spool_frames import OUTPUT, STREAMS, Frame
from runner.errors import Refused

GZIP_LEVEL = 1
MEMBER_BYTES = 1 << 20
"""As much of stdout and stderr as is packed together, but for the record that exceeds it."""
_UNPACKED_MAX_BYTES = 2 << 20
_PIECE_BYTES = 16 << 10
# FEXTRA holds 65,535 bytes; a record takes at most 24 of a table that cannot be packed.
_TABLE_MAX_BYTES = 60_000
_RECORD_BYTES = 24
_VERSION = 1
# Magic, deflate, FEXTRA, no time, no flags, unknown system; then the lengths and the fixed part of the field.
_HEAD = struct.Struct("<4sIBBH2sHBQIII")
_START = b"\x1f\x8b\x08\x04"
_FIXED_BYTES = struct.calcsize("<2sHBQIII")
_TAIL = struct.Struct("<II")
_RAW = -zlib.MAX_WBITS
_GZIP = 16 + zlib.MAX_WBITS


class _Table(msgspec.Struct, array_like=True):
    """The columns of a table."""

    sequences: list[int] = msgspec.field(default_factory=list)
    times: list[int] = msgspec.field(default_factory=list)
    streams: bytearray = msgspec.field(default_factory=bytearray)
    lengths: list[int] = msgspec.field(default_factory=list)
    texts: bytes = b""


_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(_Table).decode


class Member(msgspec.Struct, frozen=True):
    """What stands in one member, and where that begins."""

    offset: int
    records: list[tuple[int, Frame]]


class MemberWriter:
    """Packs records into members."""

    def __init__(self) -> None:
        self._table = _Table()
        self._texts: list[bytes] = []
        self._text_bytes = 0
        self._output: list[bytes] = []
        self._output_bytes = 0
        # The record that was added last, and the first that begins in this member.
        self._sequence = 0
        self._at_ns = 0
        self._first: int | None = None
        self._begun_bytes = 0

    def add(self, sequence: int, at_ns: int, stream: str, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Take one record; yield each member that is full, and what it is unpacked."""
        if stream in OUTPUT:
            if self._output_bytes >= MEMBER_BYTES or self._is_full(0):
                yield self.finish()
            self._output.append(data)
            self._output_bytes += len(data)
            self._begin(sequence, len(data))
            self._note(sequence, at_ns, stream, len(data))
            return
        for cut in range(0, max(1, len(data)), _PIECE_BYTES):
            piece = data[cut : cut + _PIECE_BYTES]
            if self._is_full(len(piece)):
                yield self.finish()
            self._texts.append(piece)
            self._text_bytes += len(piece)
            if not cut:
                self._begin(sequence, len(data))
            self._note(sequence, at_ns, stream, len(piece))

    def finish(self) -> tuple[bytes, bytes]:
        """Return the member that holds what was added since the last one, and what it is unpacked."""
        output, first = b"".join(self._output), self._sequence + 1 if self._first is None else self._first
        self._table.texts = b"".join(self._texts)
        table = zlib.compress(_ENCODE(self._table), GZIP_LEVEL)
        member = _packed(output, table, (first, self._begun_bytes))
        self._table, self._first, self._begun_bytes = _Table(), None, 0
        self._texts, self._text_bytes, self._output, self._output_bytes = [], 0, [], 0
        return member, output

    def _is_full(self, more_bytes: int) -> bool:
        return (len(self._table.lengths) + 1) * _RECORD_BYTES + self._text_bytes + more_bytes > _TABLE_MAX_BYTES

    def _note(self, sequence: int, at_ns: int, stream: str, size: int) -> None:
        table = self._table
        is_first = not table.lengths
        table.sequences.append(sequence if is_first else sequence - self._sequence)
        table.times.append(at_ns if is_first else at_ns - self._at_ns)
        table.streams.append(STREAMS.index(stream))
        table.lengths.append(size)
        self._sequence, self._at_ns = sequence, at_ns

    def _begin(self, sequence: int, size: int) -> None:
        self._first = sequence if self._first is None else self._first
        self._begun_bytes += size


def has_tables(descriptor: int) -> bool:
    """Tell whether an open archive has tables; those of earlier versions have not."""
    return _head_at(descriptor, 0) is not None


def archived(descriptor: int, wanted: int, offset: int = 0) -> Iterator[Member]:
    """
    Read an archive's members from the one on that has record ``wanted``, looking for it from ``offset`` on.

    Raises:
        Refused: the archive is damaged.
    """
    offset = _found(descriptor, wanted, offset)
    held: list[tuple[int, Frame]] = []
    begin = offset
    while (head := _head_at(descriptor, offset)) is not None:
        held = _joined(held, _records(os.pread(descriptor, head.size, offset), head))
        following = offset + head.size
        # A text may go on in the next member, so it waits for that.
        whole = len(held) - (bool(held) and held[-1][1].stream not in OUTPUT)
        yield Member(begin, held[:whole])
        held, begin, offset = held[whole:], offset, following
    yield Member(begin, held)


def sizes(descriptor: int) -> Iterator[tuple[int, int]]:
    """Yield of each member the first record that begins in it, and how many bytes those have that do."""
    offset = 0
    while (head := _head_at(descriptor, offset)) is not None:
        yield head.first, head.begun_bytes
        offset += head.size


class _MemberHead(msgspec.Struct, frozen=True):
    first: int
    size: int
    unpacked: int
    begun_bytes: int
    table_bytes: int


def _head_at(descriptor: int, offset: int) -> _MemberHead | None:
    """Read a member's head; None at the end, and where there is none of ours."""
    head = os.pread(descriptor, _HEAD.size, offset)
    if len(head) < _HEAD.size:
        _refuse_unless(not head or not offset, "it ends early")
        return None
    start, _, _, _, extra, name, length, version, first, size, unpacked, begun = _HEAD.unpack(head)
    if start != _START or name != b"RL" or version != _VERSION:
        _refuse_unless(not offset, "what follows a member is none")
        return None
    _refuse_unless(
        extra == length + 4 and size > length + _HEAD.size - _FIXED_BYTES and unpacked <= _UNPACKED_MAX_BYTES,
        "a member's head is wrong",
    )
    return _MemberHead(first, size, unpacked, begun, length + 4 - _FIXED_BYTES)


def _found(descriptor: int, wanted: int, offset: int) -> int:
    found = offset
    while (head := _head_at(descriptor, offset)) is not None and head.first <= wanted:
        found, offset = offset, offset + head.size
    return found


def _records(member: bytes, head: _MemberHead) -> list[tuple[int, Frame]]:
    try:
        unpacking = zlib.decompressobj(_GZIP)
        output = unpacking.decompress(member, head.unpacked + 1)
        output += unpacking.flush() if not unpacking.eof else b""
        table = _DECODE(_unpacked_table(member[_HEAD.size : _HEAD.size + head.table_bytes]))
    except (zlib.error, msgspec.DecodeError) as error:
        raise Refused(f"cannot read an archive of a log: it is damaged: {error}") from error
    _refuse_unless(unpacking.eof and len(output) == head.unpacked, "a member ends early")
    return list(_split(table, output))


def _unpacked_table(packed: bytes) -> bytes:
    unpacking = zlib.decompressobj()
    return unpacking.decompress(packed, 2 * _TABLE_MAX_BYTES)


def _split(table: _Table, output: bytes) -> Iterator[tuple[int, Frame]]:
    columns = zip(table.sequences, table.times, table.streams, table.lengths, strict=False)
    sequence = at_ns = of_output = of_texts = 0
    for step, step_ns, number, length in columns:
        sequence, at_ns = sequence + step, at_ns + step_ns
        _refuse_unless(number < len(STREAMS) and length >= 0, "a table is wrong")
        if (stream := STREAMS[number]) in OUTPUT:
            data, of_output = output[of_output : of_output + length], of_output + length
        else:
            data, of_texts = table.texts[of_texts : of_texts + length], of_texts + length
        yield sequence, Frame(at_ns, stream, data)


def _joined(held: list[tuple[int, Frame]], records: list[tuple[int, Frame]]) -> list[tuple[int, Frame]]:
    """Put the pieces of records together."""
    for sequence, frame in records:
        if held and held[-1][0] == sequence:
            held[-1] = sequence, frame._replace(stored=held[-1][1].stored + frame.stored)
        else:
            held.append((sequence, frame))
    return held


def _packed(output: bytes, table: bytes, begun: tuple[int, int]) -> bytes:
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _RAW)
    body = packer.compress(output) + packer.flush()
    field = _FIXED_BYTES - 4 + len(table)
    size, (first, begun_bytes) = _HEAD.size + len(table) + len(body) + _TAIL.size, begun
    lengths = (_VERSION, first, size, len(output), begun_bytes)
    head = _HEAD.pack(_START, 0, 0, 255, field + 4, b"RL", field, *lengths)
    return b"".join((head, table, body, _TAIL.pack(zlib.crc32(output), len(output))))


def _refuse_unless(is_right: bool, why: str) -> None:  # noqa: FBT001 - an assertion
    if not is_right:
        raise Refused(f"cannot read an archive of a log: it is damaged: {why}")
