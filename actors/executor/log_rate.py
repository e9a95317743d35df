"""How many lines a second of what an attempt prints go on, and what is told of those that do not."""

from __future__ import annotations

from dataclasses import dataclass

from runner.ports import Gap

BURST_S = 10.0
"""Lines of so many seconds may come at once."""
REST_S = 1.0
"""Once it printed too much, so long nothing goes on: few stretches are missing then, not every other line."""


@dataclass
class LineRate:
    """Counts the lines of one attempt, over both streams; times are loop seconds."""

    # 0: no limit.
    per_second: int = 0
    # Lines that may come now, as of that moment of the loop; None: nothing came yet.
    _left: float = 0.0
    _at: float | None = None
    _rests_until: float = 0.0

    def begin(self, now: float, ran_s: float) -> None:
        """Allow at once what it may have printed in the seconds that it ran unread."""
        self._left, self._at = (ran_s + BURST_S) * self.per_second, now

    def cut(self, data: bytes, now: float) -> tuple[bytes, bytes]:
        """Return the lines that may go on now, and the rest."""
        if not self.per_second or not (lines := data.count(b"\n")):
            return data, b""
        self._refill(now)
        allowed = min(lines, int(self._left)) if now >= self._rests_until else 0
        self._left -= allowed
        if allowed == lines:
            return data, b""
        if now >= self._rests_until:
            self._rests_until = now + REST_S
        end = _end_of_line(data, allowed)
        return data[:end], data[end:]

    def _refill(self, now: float) -> None:
        most = BURST_S * self.per_second
        if self._at is None:
            self._left = most
        else:
            more = self._left + (now - self._at) * self.per_second
            self._left = min(more, max(self._left, most))
        self._at = now


def _end_of_line(data: bytes, count: int) -> int:
    """Return where so many lines end."""
    return len(data) - len(data.split(b"\n", count)[-1]) if count else 0


@dataclass
class LeftOut:
    """What was left out of one stream since something of it went on."""

    stream: str
    size_bytes: int = 0
    lines: int = 0
    # Whether it ended within a line, whose rest is left out, too.
    is_within_line: bool = False

    def add(self, data: bytes) -> None:
        """Leave this out."""
        if data:
            self.size_bytes += len(data)
            self.lines += data.count(b"\n")
            self.is_within_line = not data.endswith(b"\n")

    def rest_of_line(self, data: bytes) -> bytes:
        """Leave out the rest of a line whose beginning is left out; return what is behind it."""
        if not self.is_within_line:
            return data
        end = data.find(b"\n") + 1 or len(data)
        self.add(data[:end])
        return data[end:]

    def take(self, reason: str) -> Gap:
        """Return what is told of it, and begin anew."""
        gap = Gap(self.stream, self.size_bytes, self.lines, reason)
        self.size_bytes = self.lines = 0
        return gap
