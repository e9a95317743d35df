"""Services that logs go to, in memory; they outlive the runner, each of whose lives opens them anew."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence

from runner.job import Key
from runner.ports import End, LogLine, Position, SinkTraits
from runner.receipt import Event


class FakePlace:
    """
    Keeps all that it was ever sent, in order, also what it was sent twice.

    One that ``tells`` says which record it has last, as a stream does; another one cannot, as a channel.
    """

    def __init__(self, *, tells: bool = False, traits: SinkTraits | None = None) -> None:
        self.tells, self.traits = tells, traits or SinkTraits()
        # Awaited before anything is taken, with what is about to be: it may raise, or take its time.
        self.trouble: Callable[[str, Key], Awaitable[None]] | None = None
        self.lines: dict[Key, list[LogLine]] = defaultdict(list)
        self.came_at: dict[Key, list[float]] = defaultdict(list)
        self.events: dict[Key, list[Event]] = defaultdict(list)
        self.ends: Counter[Key] = Counter()
        # When each call was tried, on the loop's clock; how often it was opened and released.
        self.tried_at: list[float] = []
        self.opened = self.released = 0

    async def meet(self, call: str, key: Key) -> None:
        """Be called."""
        self.tried_at.append(asyncio.get_running_loop().time())
        if self.trouble is not None:
            await self.trouble(call, key)

    def positions(self, key: Key) -> list[tuple[int, int]]:
        return [(line.attempt, line.sequence) for line in self.lines[key]]

    def text(self, key: Key, stream: str = "stdout") -> bytes:
        return b"".join(line.data for line in self.lines[key] if line.stream == stream)

    def connection(self) -> PlaceSink:
        self.opened += 1
        return PlaceSink(self)


class PlaceSink:
    """One connection to a place."""

    def __init__(self, place: FakePlace) -> None:
        self._place, self.traits = place, place.traits

    async def open(self, key: Key, job_id: str) -> Position | None:
        await self._place.meet("open", key)
        have = self._place.positions(key)
        if not self._place.tells:
            return None
        return Position(have[-1][0], have[-1][1] + 1) if have else Position()

    async def write(self, key: Key, job_id: str, events: Sequence[Event], lines: Sequence[LogLine]) -> None:
        await self._place.meet("write", key)
        self._place.events[key] += events
        self._place.lines[key] += lines
        self._place.came_at[key] += [asyncio.get_running_loop().time()] * len(lines)

    async def close(self, key: Key, job_id: str, end: End) -> None:
        await self._place.meet("close", key)
        self._place.ends[key] += 1
        self._place.events[key].append(end.event)

    async def release(self) -> None:
        self._place.released += 1
