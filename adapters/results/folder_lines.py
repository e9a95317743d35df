"""
The format in which log records stand in a result directory: frames, each whole or not there.

    frame   u32 length of content | u32 CRC-32 of content | content: MessagePack [sequence, epoch ns, stream, bytes]

Little-endian. Reading ends at the first frame that is not whole, which is where a kill or a power cut left the file.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable

import msgspec

from runner.ports import LogLine

BLOCK_BYTES = 1 << 20
_HEAD = struct.Struct("<II")


class _Content(msgspec.Struct, frozen=True, array_like=True):
    sequence: int
    at_ns: int
    stream: str
    data: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Content)


def encode(lines: Iterable[LogLine]) -> bytes:
    """Return the frames of some records of one attempt."""
    contents = [_encoder.encode(_Content(line.sequence, line.at_ns, line.stream, line.data)) for line in lines]
    return b"".join(_HEAD.pack(len(content), zlib.crc32(content)) + content for content in contents)


class LineReader:
    """Reads one file of frames from its beginning, as far as it goes and then on from there."""

    def __init__(self, path: str, attempt: int) -> None:
        self._path = path
        self._attempt = attempt
        # Where the first frame begins that was not read yet.
        self.offset = 0

    def read(self, limit_bytes: int = BLOCK_BYTES) -> list[LogLine]:
        """Return the next whole records, about ``limit_bytes`` of them but at least one; [] where there is none."""
        with open(self._path, "rb", buffering=0) as file:
            block = os.pread(file.fileno(), limit_bytes, self.offset)
            needed = _first_length(block)
            if needed > len(block):
                block = os.pread(file.fileno(), needed, self.offset)
        lines, read = _decode(block, self._attempt)
        self.offset += read
        return lines


def _first_length(block: bytes) -> int:
    return _HEAD.size + int(_HEAD.unpack_from(block)[0]) if len(block) >= _HEAD.size else 0


def _decode(block: bytes, attempt: int) -> tuple[list[LogLine], int]:
    lines, start = [], 0
    while start + _HEAD.size <= len(block):
        length, checksum = _HEAD.unpack_from(block, start)
        end = start + _HEAD.size + length
        content = block[start + _HEAD.size : end]
        if end > len(block) or length == 0 or zlib.crc32(content) != checksum:
            break
        record = _decoder.decode(content)
        lines.append(LogLine(attempt, record.sequence, record.at_ns, record.stream, record.data))
        start = end
    return lines, start
