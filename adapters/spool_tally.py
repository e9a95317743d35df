"""What stands in an attempt's log up to a place, and how that is written down at the head of each segment."""

from __future__ import annotations

import struct
import zlib

import msgspec

from adapters.spool_frames import GAP, OUTPUT, STREAMS
from runner.ports import Gap

HEADER = struct.Struct("<8sI14QI")
"""
Magic, CRC-32 of what follows, records, ten slots (bytes of five streams, bytes missing of two, bytes that do not count
of two, lines missing), newlines of two, gaps, streams with an open line.
"""
MAGIC = b"RSPOOL\x00\x02"
_CHECKED = 12


class Tally:
    """
    Records, bytes by stream, and the lines of stdout and of stderr, in whatever order they came.

    What was dropped from the middle stays counted.
    """

    def __init__(self) -> None:
        self.records = 0
        self.bytes = dict.fromkeys(STREAMS, 0)
        self.newlines = dict.fromkeys(OUTPUT, 0)
        # Records of stream gap; bytes by stream that they say are missing, and that nobody shall read any more.
        self.gaps = 0
        self.missing = dict.fromkeys(OUTPUT, 0)
        self.missing_lines = 0
        # Bytes by stream that stand here of a source which was cut off since, and begins anew behind a gap.
        self.rewound = dict.fromkeys(OUTPUT, 0)
        # Whose last line has no newline yet.
        self._open_lines: set[str] = set()

    @property
    def lines(self) -> int:
        """Lines of stdout and stderr; the last one of each without newline counts."""
        return sum(self.newlines.values()) + len(self._open_lines)

    @property
    def output_bytes(self) -> int:
        """Bytes of stdout and stderr."""
        return sum(self.bytes[stream] for stream in OUTPUT)

    @property
    def printed_bytes(self) -> int:
        """Bytes of stdout and stderr that stand here, or are told as missing of one of them."""
        return self.output_bytes + sum(self.missing.values())

    @property
    def printed_lines(self) -> int:
        """Newlines of both that stand here, or are told as missing of one of them."""
        return sum(self.newlines.values()) + self.missing_lines

    @property
    def passed(self) -> dict[str, int]:
        """Bytes by stream that are over: they stand here, or are told as missing."""
        return self.bytes | {it: self.bytes[it] + self.missing[it] - self.rewound[it] for it in OUTPUT}

    @property
    def all_bytes(self) -> int:
        """Bytes of all streams."""
        return sum(self.bytes.values())

    def add(self, stream: str, data: bytes, records: int = 1) -> None:
        """Count what was written to one stream."""
        self.records += records
        self.bytes[stream] += len(data)
        if stream == GAP:
            self._add_gap(data)
        if stream in OUTPUT:
            self.newlines[stream] += data.count(b"\n")
            if data.endswith(b"\n"):
                self._open_lines.discard(stream)
            else:
                self._open_lines.add(stream)

    def _add_gap(self, data: bytes) -> None:
        self.gaps += 1
        if (gap := gap_of_stream(data)) is not None:
            self.missing[gap.stream] += gap.bytes or 0
            self.missing_lines += gap.lines or 0
            if gap.resumes_at is not None:
                self.rewound[gap.stream] += self.passed[gap.stream] - gap.resumes_at

    def header(self) -> bytes:
        """Return the head of a segment that begins behind all this."""
        counts = [*self.bytes.values(), *self.missing.values(), *self.rewound.values()]
        slots = [*counts, self.missing_lines]
        newlines = [self.newlines[stream] for stream in OUTPUT]
        opened = sum(1 << number for number, stream in enumerate(OUTPUT) if stream in self._open_lines)
        packed = HEADER.pack(MAGIC, 0, self.records, *slots, *newlines, self.gaps, opened)
        return MAGIC + struct.pack("<I", zlib.crc32(packed[_CHECKED:])) + packed[_CHECKED:]


def gap_of_stream(data: bytes) -> Gap | None:
    """Return what a record of stream gap tells as missing of one stream; None where it names none."""
    try:
        gap = msgspec.json.decode(data, type=Gap)
    except msgspec.MsgspecError:
        return None  # of another version; it is handed on as it is
    return gap if gap.stream in OUTPUT else None


def load_tally(header: bytes) -> Tally | None:
    """Return what stands before a segment, by its head; None where that is damaged."""
    magic, checksum, records, *slots, first, second, gaps, opened = HEADER.unpack(header)
    if magic != MAGIC or zlib.crc32(header[_CHECKED:]) != checksum:
        return None
    tally = Tally()
    tally.records = records
    tally.bytes = dict(zip(STREAMS, slots, strict=False))
    tally.missing = dict(zip(OUTPUT, slots[len(STREAMS) :], strict=False))
    tally.rewound = dict(zip(OUTPUT, slots[len(STREAMS) + len(OUTPUT) :], strict=False))
    tally.missing_lines = slots[-1]
    tally.newlines = dict(zip(OUTPUT, (first, second), strict=True))
    tally.gaps = gaps
    tally._open_lines = {stream for number, stream in enumerate(OUTPUT) if opened >> number & 1}  # noqa: SLF001 - made here
    return tally
