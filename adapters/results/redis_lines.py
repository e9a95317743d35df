"""
The format in which log records stand in Redis: chunks of one attempt, each a MessagePack array of records.

A record is ``[sequence, epoch ns, stream, bytes]``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from runner.ports import LogLine

log = logging.getLogger(__name__)

CHUNK_BYTES = 64 << 10
"""A chunk is full then; a record that is larger is a chunk of its own."""
CALL_BYTES = 1 << 20
"""One call carries about so many bytes of chunks, since the server does nothing else meanwhile."""


class _Content(msgspec.Struct, frozen=True, array_like=True):
    sequence: int
    at_ns: int
    stream: str
    data: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[_Content, ...])


@dataclass(frozen=True)
class Chunk:
    """Records of one attempt in ascending order: what the server must know of them, and their bytes."""

    attempt: int
    last: int
    began_ns: int
    ended_ns: int
    size_bytes: int
    data: bytes

    def arguments(self) -> tuple[int | bytes, ...]:
        """Return them in the order in which the script takes them."""
        return self.attempt, self.last, self.began_ns, self.ended_ns, self.size_bytes, self.data


def calls(lines: Sequence[LogLine]) -> list[list[Chunk]]:
    """Return records as chunks, in portions for one call each; at least one portion, which may be empty."""
    portions: list[list[Chunk]] = [[]]
    held = 0
    for chunk in _chunks(lines):
        if held and held + len(chunk.data) > CALL_BYTES:
            portions.append([])
            held = 0
        portions[-1].append(chunk)
        held += len(chunk.data)
    return portions


def decode(attempt: int, data: bytes) -> Iterator[LogLine]:
    """Yield the records of a chunk; none of one that nobody can read."""
    try:
        records = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        log.warning("a chunk of a log cannot be read", extra={"action": "result_ignored", "error": str(error)})
        return
    for record in records:
        yield LogLine(attempt, record.sequence, record.at_ns, record.stream, record.data)


def _chunks(lines: Sequence[LogLine]) -> Iterator[Chunk]:
    for attempt in dict.fromkeys(line.attempt for line in lines):
        held: list[LogLine] = []
        size = 0
        for line in _ascending(line for line in lines if line.attempt == attempt):
            if held and size + len(line.data) > CHUNK_BYTES:
                yield _chunk(held, size)
                held, size = [], 0
            held.append(line)
            size += len(line.data)
        if held:
            yield _chunk(held, size)


def _chunk(lines: list[LogLine], size: int) -> Chunk:
    data = _encoder.encode([_Content(line.sequence, line.at_ns, line.stream, line.data) for line in lines])
    return Chunk(lines[0].attempt, lines[-1].sequence, lines[0].at_ns, lines[-1].at_ns, size, data)


def _ascending(lines: Iterable[LogLine]) -> Iterator[LogLine]:
    wanted = 0
    for line in lines:
        if line.sequence >= wanted:
            yield line
            wanted = line.sequence + 1
