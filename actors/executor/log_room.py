"""How much of what an attempt prints is kept: its log may be as large as the box lets it be, and not a byte more."""

from __future__ import annotations

from dataclasses import dataclass

LINE_LEAST_BYTES = 32
"""A shorter line counts as so many, since an engine keeps each with about as much around it."""


@dataclass
class LogRoom:
    """Counts the output of one attempt, over both streams."""

    # 0: no limit.
    limit_bytes: int = 0
    # Printed so far, kept or not; what an earlier life of the runner read counts by its bytes alone.
    printed_bytes: int = 0
    lines: int = 0

    def begin(self, kept_bytes: int) -> None:
        """Count anew from what is kept already, as reading begins again behind that."""
        self.printed_bytes = kept_bytes

    def take(self, data: bytes) -> bytes:
        """Count what was printed, and return the part of it that is kept."""
        room = max(0, self.limit_bytes - self.printed_bytes) if self.limit_bytes else len(data)
        self.printed_bytes += len(data)
        self.lines += data.count(b"\n")
        return data[:room]

    @property
    def is_flooded(self) -> bool:
        """Whether more was printed than is allowed."""
        return 0 < self.limit_bytes < max(self.printed_bytes, self.lines * LINE_LEAST_BYTES)
