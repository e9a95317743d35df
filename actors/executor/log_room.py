"""How much of what an attempt prints is kept: its log may be as large as the box lets it be, and not a byte more."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from actors.executor.log_rate import LineRate
from runner.units import format_size

LINE_LEAST_BYTES = 32
"""A shorter line counts as so many, since an engine keeps each with about as much around it."""
Overflow = Literal["kill", "truncate", "pause"]


@dataclass
class LogRoom:
    """Counts the output of one attempt, over both streams."""

    # 0: no limit.
    limit_bytes: int = 0
    overflow: Overflow = "kill"
    rate: LineRate = field(default_factory=LineRate)
    # Printed so far, kept or not; what an earlier life of the runner read counts by its bytes alone.
    printed_bytes: int = 0
    lines: int = 0
    # Whether it printed faster than it may, where that ends it.
    is_too_fast: bool = False
    # Once so much is printed, its middle is looked at again.
    _cut_at: int = 0

    def begin(self, kept_bytes: int) -> None:
        """Count anew from what is kept already, as reading begins again behind that."""
        self.printed_bytes = kept_bytes
        self._cut_at = self.limit_bytes

    def take(self, data: bytes) -> bytes:
        """Count what was printed, and return the part of it that is kept."""
        room = max(0, self.limit_bytes - self.printed_bytes) if self.limit_bytes else len(data)
        self.printed_bytes += len(data)
        self.lines += data.count(b"\n")
        return data[:room] if self.overflow == "kill" else data

    @property
    def is_flooded(self) -> bool:
        """Whether more was printed than is allowed, and that ends it."""
        if self.overflow != "kill":
            return False
        return self.is_too_fast or 0 < self.limit_bytes < max(self.printed_bytes, self.lines * LINE_LEAST_BYTES)

    def middle(self) -> tuple[int, int] | None:
        """Return how much of head and tail is kept where something between them is to go now."""
        if self.overflow == "kill" or not self.limit_bytes or self.printed_bytes <= self._cut_at:
            return None
        part = max(1, self.limit_bytes // 8)
        self._cut_at = self.printed_bytes + part
        return 4 * part, 3 * part

    @property
    def limit_words(self) -> str:
        """Name the limit that it broke, and its key."""
        if self.is_too_fast:
            return f"{self.rate.per_second} lines a second (log_rate)"
        return f"{format_size(self.limit_bytes)} (log_max)"
