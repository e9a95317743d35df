"""
How much this life of the runner may take (``limit_tasks``), and how long it waits for more (``limit_idle_duration``).

Shared by the pollers, in one event loop. Where there is a limit, whoever fetches has a place before it begins, so that
never more is claimed; those that found none come first when one is free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

from runner.job import Key
from runner.records import ClaimedJob
from runner.units import format_duration

FULL_S, SPENT_S = 2.0, 15.0
"""Who found no place asks again after so long: where others fetch, and where all that may be taken is."""
LOOK_S = 1.0


class Allowance:
    """``jobs`` and ``idle_s`` are the limits; 0: none."""

    def __init__(self, jobs: int, idle_s: float) -> None:
        """Begin with nothing taken."""
        self._jobs, self._idle_s = jobs, idle_s
        # Those that were claimed in this life and not given back: their receipts are, or will be, stored here.
        self._taken: set[tuple[Key, int]] = set()
        # Fetches that are under way; each may bring one.
        self._fetching = 0
        # Queues that found no place, longest waiting first, and when they asked last (loop seconds).
        self._waiting: dict[str, float] = {}
        # Loop seconds when a job was seen last; 0 before the first look.
        self._busy_at = 0.0

    def begin_fetch(self, queue: str) -> bool:
        """Take a place; False where none is free, or others have waited for it."""
        now = asyncio.get_running_loop().time()
        self._waiting = {name: at for name, at in self._waiting.items() if at > now - 2 * FULL_S}
        if self._jobs and (self._places < 1 or next(iter(self._waiting), queue) != queue):
            self._waiting[queue] = now
            return False
        self._waiting.pop(queue, None)
        self._fetching += 1
        return True

    def end_fetch(self) -> None:
        """Give a place back; what was found has been counted."""
        self._fetching -= 1

    @property
    def _places(self) -> int:
        return self._jobs - len(self._taken) - self._fetching

    @property
    def rest_s(self) -> float:
        """How long to leave it alone where no place was free."""
        return FULL_S if self._fetching else SPENT_S

    @property
    def is_scarce(self) -> bool:
        """Whether no further queue may fetch now: whoever does must not be long about it."""
        return bool(self._jobs) and self._places < 1

    def took(self, claim: ClaimedJob) -> None:
        """Count a job that was claimed; where there is no limit, none is kept in mind."""
        if self._jobs:
            self._taken.add((claim.key, claim.attempt))
        self._busy_at = asyncio.get_running_loop().time()

    def gave_back(self, claim: ClaimedJob) -> None:
        """Count one no longer that left as it came, or that another box has now."""
        self._taken.discard((claim.key, claim.attempt))

    async def until_over(self, in_flight: Callable[[], Awaitable[Collection[object]]]) -> str:
        """Return why the runner is to end, once it is; never where there is no limit."""
        clock = asyncio.get_running_loop().time
        self._busy_at = clock()
        while self._jobs or self._idle_s:
            if await in_flight():
                self._busy_at = clock()
            elif 0 < self._jobs <= len(self._taken):
                return f"limit_tasks: {len(self._taken)} jobs were taken"
            elif 0 < self._idle_s <= clock() - self._busy_at:
                return f"limit_idle_duration: no job for {format_duration(self._idle_s)}"
            await asyncio.sleep(min(LOOK_S, self._idle_s or LOOK_S))
        await asyncio.Event().wait()
        return ""
