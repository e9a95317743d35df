"""
Puts a container's output together again, byte for byte, from the entries of the engine's ``local`` log. Pure.

The engine cuts output at newlines, and lines at 16 KiB, into entries that it sends one a frame. Engines before 23 leave
out the newline of a line that they had to cut (seen on 20.10); it is put back here. One byte cannot be known: whether a
last line of more than 16 KiB ended in a newline.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from runner.errors import Unavailable
from runner.ports import Chunk

STREAMS = ("stdout", "stderr")
ENTRY_MAX_BYTES = 16 << 10
_HEADER = struct.Struct(">BxxxL")
_NAMES = {1: "stdout", 2: "stderr"}


class LogUnreadable(Unavailable):
    """The engine cannot read its own log of a container."""

    code = "log_unreadable"


class KeptLog:
    """
    One reading of a kept log from its beginning, asked for with ``details``, which alone shows empty entries.

    Args:
        skip: bytes of each stream that are left out because the reader has them.
    """

    def __init__(self, skip: Mapping[str, int]) -> None:
        self._skip = {stream: skip.get(stream, 0) for stream in STREAMS}
        # The beginning of a frame whose rest has not arrived.
        self._rest = bytearray()
        # Streams whose last entry was cut off at the size limit, so that the next one goes on with the same line.
        self._within_line: set[str] = set()
        # Streams that get a newline as soon as another entry shows that the line had ended.
        self._owed: set[str] = set()

    def feed(self, data: bytes) -> tuple[Chunk, ...]:
        """
        Take bytes as they arrive and return what they complete, at most one chunk a stream.

        Raises:
            LogUnreadable: the engine says in the stream that it cannot go on.
        """
        self._rest += data
        found: dict[str, bytearray] = {stream: bytearray() for stream in STREAMS}
        begin = 0
        while (end := self._frame_end(begin)) is not None:
            number, _ = _HEADER.unpack_from(self._rest, begin)
            entry = bytes(self._rest[begin + _HEADER.size : end])
            stream = _stream(number, entry)
            found[stream] += self._restored(stream, entry[entry.index(b" ") + 1 :])
            begin = end
        del self._rest[:begin]
        return tuple(Chunk(stream, new) for stream, text in found.items() if (new := self._unskipped(stream, text)))

    def _frame_end(self, begin: int) -> int | None:
        if len(self._rest) - begin < _HEADER.size:
            return None
        _, size = _HEADER.unpack_from(self._rest, begin)
        end = begin + _HEADER.size + int(size)
        return end if end <= len(self._rest) else None

    def _restored(self, stream: str, entry: bytes) -> bytes:
        owed = b"\n" if stream in self._owed else b""
        self._owed.discard(stream)
        was_within, ends_line = stream in self._within_line, entry.endswith(b"\n")
        self._within_line.discard(stream)
        if not ends_line and len(entry) >= ENTRY_MAX_BYTES:
            self._within_line.add(stream)
        elif not ends_line and was_within:
            self._owed.add(stream)
        return owed + entry

    def _unskipped(self, stream: str, text: bytearray) -> bytes:
        skipped = min(self._skip[stream], len(text))
        self._skip[stream] -= skipped
        return bytes(text[skipped:])


def first_entry(data: bytes) -> bytes | None:
    """
    Return the first entry that these bytes of an answer begin with; None where more is needed.

    Raises:
        LogUnreadable: the engine says in the stream that it cannot go on.
    """
    if len(data) < _HEADER.size:
        return None
    number, size = _HEADER.unpack_from(data)
    if len(data) < _HEADER.size + size:
        return None
    entry = data[_HEADER.size : _HEADER.size + size]
    _stream(number, entry)
    return entry


def _stream(number: int, entry: bytes) -> str:
    if number not in _NAMES:
        raise LogUnreadable(f"Docker cannot read its log of the container: {entry.decode(errors='replace').strip()}")
    return _NAMES[number]
