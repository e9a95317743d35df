"""
Puts together what a job writes in bits: whole lines go on at once, the beginning of a line waits a moment for its rest.

Holds little, and makes whoever reads wait where more is held than is taken.
"""

from __future__ import annotations

import asyncio
from collections import deque

HELD_S = 0.02
"""So long the beginning of a line waits for its rest: a prompt and a progress bar must be seen, too."""
TAIL_MAX_BYTES = 64 << 10
RECORD_MAX_BYTES = 64 << 10
"""What sinks send at once."""
HELD_MAX_BYTES = 1 << 20
TURN_S = 0.005
"""Between two looks while little comes: a job that prints every moment must not cost a turn for each line."""

Piece = tuple[str, bytes]


class Joiner:
    """What was read of one attempt and not yet taken; times are loop seconds. Pure."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._ready: deque[tuple[str, bytearray]] = deque()
        # Beginnings of lines by stream, and when each goes on as it is.
        self._tails: dict[str, bytearray] = {}
        self._due: dict[str, float] = {}
        self.held_bytes = 0

    def add(self, stream: str, data: bytes, now: float) -> None:
        """Take what was read."""
        self.held_bytes += len(data)
        tail, end = self._tails.setdefault(stream, bytearray()), data.rfind(b"\n") + 1
        if not end and not tail:
            self._due[stream] = now + HELD_S
        if end:
            self._push(stream, tail, data[:end])
            self._due[stream] = now + HELD_S
            tail.clear()
        tail += data[end:]
        if len(tail) >= TAIL_MAX_BYTES:
            self._give_up_on(stream)

    def take(self, now: float) -> list[Piece]:
        """Return what may go on, in order; each piece is at most one record."""
        for stream, tail in self._tails.items():
            if tail and self._due[stream] <= now:
                self._give_up_on(stream)
        pieces = [(stream, bytes(data)) for stream, data in self._ready]
        self._ready.clear()
        self.held_bytes -= sum(len(data) for _, data in pieces)
        return pieces

    def end(self) -> None:
        """Let everything go on: nothing more will come."""
        for stream in self._tails:
            self._give_up_on(stream)

    def due(self, now: float) -> float | None:
        """Return in how many seconds something may go on; None: not before more comes."""
        if self._ready:
            return 0.0
        return min((max(0.0, self._due[stream] - now) for stream, tail in self._tails.items() if tail), default=None)

    def _give_up_on(self, stream: str) -> None:
        self._push(stream, self._tails[stream])
        self._tails[stream].clear()

    def _push(self, stream: str, *parts: bytes | bytearray) -> None:
        for part in parts:
            done = 0
            while done < len(part):
                if not self._ready or self._ready[-1][0] != stream or len(self._ready[-1][1]) >= RECORD_MAX_BYTES:
                    self._ready.append((stream, bytearray()))
                last = self._ready[-1][1]
                end = _end_of_lines(part, done, done + RECORD_MAX_BYTES - len(last), is_fresh=not last)
                if end == done:
                    self._ready.append((stream, bytearray()))
                last += part[done:end]
                done = end


def _end_of_lines(text: bytes | bytearray, begin: int, limit: int, *, is_fresh: bool) -> int:
    """Return where the last whole line before ``limit`` ends; a line that fills a record of its own is cut."""
    if limit >= len(text):
        return len(text)
    return text.rfind(b"\n", begin, limit) + 1 or (limit if is_fresh else begin)


class Flow:
    """Between the one that reads and the one that writes."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._joiner = Joiner()
        self._added, self._taken = asyncio.Event(), asyncio.Event()
        self._clock = asyncio.get_running_loop().time
        self._is_over = False

    async def put(self, stream: str, data: bytes) -> None:
        """Hand on what was read; waits while too much is held."""
        while self._joiner.held_bytes > HELD_MAX_BYTES:
            self._taken.clear()
            await self._taken.wait()
        if stream == "gap":
            self._joiner.end()
        self._joiner.add(stream, data, self._clock())
        self._added.set()

    def end(self) -> None:
        """Say that nothing more comes."""
        self._is_over = True
        self._joiner.end()
        self._added.set()

    async def next(self) -> list[Piece]:
        """Return what may go on, in order; nothing at the end."""
        while not (pieces := self._joiner.take(self._clock())) and not self._is_over:
            await self._more()
        self._taken.set()
        return pieces

    async def turn(self) -> None:
        """Leave time for more to come, unless much is there already."""
        is_much = self._joiner.held_bytes >= TAIL_MAX_BYTES or self._is_over
        await asyncio.sleep(0 if is_much else TURN_S)

    async def _more(self) -> None:
        self._added.clear()
        try:
            async with asyncio.timeout(self._joiner.due(self._clock())):
                await self._added.wait()
        except TimeoutError:
            pass  # what is held goes on as it is
