"""
How a record stands in a spool: framed, whole or not there.

    frame   u32 length of data | u32 CRC-32 of all that follows | u64 epoch nanoseconds | u8 stream | data

Little-endian; with 128 added to the stream the data are packed with zstd. Reading ends at the first frame that is not
whole, so a kill in the middle of a write costs that write and nothing else.
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import zstandard

from runner.errors import RunnerError

STREAMS: tuple[str, ...] = ("stdout", "stderr", "runner", "event", "gap")
"""Their numbers in a frame are their places here; new ones go to the end."""
OUTPUT: tuple[str, ...] = ("stdout", "stderr")
"""What the job itself wrote, which is what a receipt and an archive are about."""
GAP = "gap"
DATA_MAX_BYTES = 256 << 10
PACK_LEAST_BYTES = 4 << 10
PACK_LEVEL = -3
BLOCK_BYTES = 1 << 20

_LENGTHS = struct.Struct("<II")
_HEAD = struct.Struct("<IIQB")
_BODY = struct.Struct("<QB")
_NUMBERS = {name: number for number, name in enumerate(STREAMS)}
_PACKED = 128


class Frame(NamedTuple):
    """One record: when (epoch nanoseconds), which stream, its bytes as stored, and the offset that follows it."""

    at_ns: int
    stream: str
    stored: bytes
    end: int = 0
    # Where the bytes are stored packed.
    unpacker: zstandard.ZstdDecompressor | None = None

    @property
    def data(self) -> bytes:
        """The bytes as they were appended."""
        return self.stored if self.unpacker is None else self.unpacker.decompress(self.stored)

    @property
    def size(self) -> int:
        """How many bytes were appended; told without unpacking them."""
        return len(self.stored) if self.unpacker is None else zstandard.frame_content_size(self.stored)


class Packer:
    """Packs what is appended by a process; beginning anew for each record would double the cost of small ones."""

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(level=PACK_LEVEL)
        # Large records are packed in threads.
        self._lock = threading.Lock()

    def pack(self, data: bytes) -> bytes:
        """Return the bytes packed."""
        with self._lock:
            return self._compressor.compress(data)


def encode(at_ns: int, stream: str, data: bytes, packer: Packer) -> bytes:
    """
    Return the frames of some bytes; more than 256 KiB take several.

    Raises:
        RunnerError: there is no such stream.
    """
    if stream not in _NUMBERS:
        raise RunnerError(f"cannot write to log stream {stream!r}: there are {', '.join(STREAMS)}")
    if len(data) <= DATA_MAX_BYTES:
        return _frame(at_ns, _NUMBERS[stream], data, packer)
    cuts = range(0, len(data), DATA_MAX_BYTES)
    return b"".join(encode(at_ns, stream, data[cut : cut + DATA_MAX_BYTES], packer) for cut in cuts)


def frames_needed(size: int) -> int:
    """Return how many frames so many bytes take."""
    return -(-size // DATA_MAX_BYTES)


def frames(descriptor: int, offset: int, end: int | None = None) -> Iterator[Frame]:
    """Read whole frames of an open file from an offset, up to another or the end of the file."""
    unpacker = zstandard.ZstdDecompressor()
    while end is None or offset < end:
        wanted = BLOCK_BYTES if end is None else min(BLOCK_BYTES, end - offset)
        read = offset
        for frame in _frames_of(os.pread(descriptor, wanted, offset), offset, unpacker):
            read = frame.end
            yield frame
        if read == offset:
            return
        offset = read


def _frames_of(block: bytes, offset: int, unpacker: zstandard.ZstdDecompressor) -> Iterator[Frame]:
    at, view = 0, memoryview(block)
    while at + _HEAD.size <= len(block):
        length, checksum, at_ns, number = _HEAD.unpack_from(block, at)
        end, stream = at + _HEAD.size + length, number & ~_PACKED
        if end > len(block) or zlib.crc32(view[at + _LENGTHS.size : end]) != checksum or stream >= len(STREAMS):
            return
        used = unpacker if number >= _PACKED else None
        yield Frame(at_ns, STREAMS[stream], block[at + _HEAD.size : end], offset + end, used)
        at = end


def _frame(at_ns: int, number: int, data: bytes, packer: Packer) -> bytes:
    if len(data) >= PACK_LEAST_BYTES and len(packed := packer.pack(data)) < len(data):
        number, data = number | _PACKED, packed
    body = _BODY.pack(at_ns, number) + data
    return _LENGTHS.pack(len(data), zlib.crc32(body)) + body
