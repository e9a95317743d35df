"""
The spool's file format: a header, then framed records, each whole or not there.

    file    "RSPOOL" 00 01, then frames
    frame   u32 length of data | u32 CRC-32 of all that follows | u64 epoch nanoseconds | u8 stream | data

Little-endian. A record's sequence is its place in the file. Reading ends at the first frame that is not whole, so a
kill in the middle of a write costs that write and nothing else.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from runner.errors import ConfigurationError, RunnerError

MAGIC = b"RSPOOL\x00\x01"
STREAMS: tuple[str, ...] = ("stdout", "stderr", "runner", "event", "gap")
"""Their numbers in a frame are their places here; new ones go to the end."""
OUTPUT = frozenset({"stdout", "stderr"})
"""What the job itself wrote, which is what a receipt and an archive are about."""
DATA_MAX_BYTES = 256 << 10
BLOCK_BYTES = 1 << 20

_LENGTHS = struct.Struct("<II")
_HEAD = struct.Struct("<IIQB")
_BODY = struct.Struct("<QB")
_NUMBERS = {name: number for number, name in enumerate(STREAMS)}


class Frame(NamedTuple):
    """One record: when (epoch nanoseconds), which stream, its bytes, and the offset in the file that follows it."""

    at_ns: int
    stream: str
    data: bytes
    end: int


def encode(at_ns: int, stream: str, data: bytes) -> bytes:
    """
    Return the frames of some bytes; more than 256 KiB take several.

    Raises:
        RunnerError: there is no such stream.
    """
    if stream not in _NUMBERS:
        raise RunnerError(f"cannot write to log stream {stream!r}: there are {', '.join(STREAMS)}")
    if len(data) <= DATA_MAX_BYTES:
        return _frame(_BODY.pack(at_ns, _NUMBERS[stream]) + data)
    cuts = range(0, len(data), DATA_MAX_BYTES)
    return b"".join(encode(at_ns, stream, data[cut : cut + DATA_MAX_BYTES]) for cut in cuts)


def frames(descriptor: int, start: int, end: int) -> Iterator[Frame]:
    """
    Read whole frames of an open file from an offset, up to another.

    Raises:
        ConfigurationError: the file is no spool of this version.
    """
    offset = start or _after_header(descriptor)
    while offset < end and (block := os.pread(descriptor, min(BLOCK_BYTES, end - offset), offset)):
        read = offset
        for frame in _frames_of(block, offset):
            read = frame.end
            yield frame
        if read == offset:
            return
        offset = read


def _after_header(descriptor: int) -> int:
    header = os.pread(descriptor, len(MAGIC), 0)
    if header != MAGIC[: len(header)]:
        raise ConfigurationError(
            f"cannot read a log that begins with {header!r}: another version of the runner wrote it"
        )
    return len(MAGIC)


def _frames_of(block: bytes, offset: int) -> Iterator[Frame]:
    at, view = 0, memoryview(block)
    while at + _HEAD.size <= len(block):
        length, checksum, at_ns, stream = _HEAD.unpack_from(block, at)
        end = at + _HEAD.size + length
        if end > len(block) or zlib.crc32(view[at + _LENGTHS.size : end]) != checksum or stream >= len(STREAMS):
            return
        yield Frame(at_ns, STREAMS[stream], block[at + _HEAD.size : end], offset + end)
        at = end


def _frame(body: bytes) -> bytes:
    return _LENGTHS.pack(len(body) - _BODY.size, zlib.crc32(body)) + body
