"""
Which jobs the sinks of this box may miss something of: found on the disk, after a restart and when a sink returns.

So nothing is remembered of a job that waits for a sink that is away, but that some do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from actors.logs.ends import reported_of
from runner.calls import Caller
from runner.config import Config
from runner.directory import Directory
from runner.job import Key
from runner.messages import Reported
from runner.ports import World
from runner.records import JournalEntry
from runner.trail import Trail

LATE_MAX = 64
"""So many jobs that ended wait for one sink at a time; each is a task, and the others cost nothing."""
ROOM = LATE_MAX // 2
LOOK_AGAIN_S = 1.0
LOOK_SOON_S = 0.05


class Arrears:
    """What was left behind, by queue and sink, and whether it can be made up for now."""

    def __init__(self, config: Config, world: World, caller: Caller, trail: Trail, directory: Directory) -> None:
        """Begin with nothing known."""
        self._config, self._world, self._caller, self._trail = config, world, caller, trail
        self._directory = directory
        # Queues and names of sinks, "" where the queue itself is away.
        self._owed: set[tuple[str, str]] = set()
        self._added = asyncio.Event()

    def add(self, queue: str, sink: str) -> None:
        """Remember that some job that ended misses something there."""
        self._owed.add((queue, sink))
        self._added.set()

    async def all(self) -> AsyncIterator[tuple[Key, Reported | None]]:
        """Yield the jobs whose spools stand, and how each ended, None where it goes on; waits while many are told."""
        kept_from = self._world.now() - self._config.keep_results
        for key in await self._caller.until_done(self._world.spool.unshed, "spools"):
            entry = await self._trail.entry(key)
            if entry is None or (entry.stored is not None and entry.stored.decision is None):
                continue  # nobody knows it, or it goes on elsewhere
            reported = _end_of(entry)
            if reported is None:
                yield key, None
            elif reported.at > kept_from and await self._may_be_told(reported.claim.queue):
                yield key, reported

    async def again(self) -> None:
        """Return when something of what is owed can be told."""
        while not (ready := {owed for owed in self._owed if self._is_ready(*owed)}):
            self._added.clear()
            if self._owed:
                await asyncio.sleep(LOOK_AGAIN_S)
            else:
                await self._added.wait()
        self._owed -= ready

    async def _may_be_told(self, queue: str) -> bool:
        """Wait until there is room; False where the queue is away."""
        while (entry := self._directory.find(queue)) is not None:
            there = [outlet for outlet in entry.backend.outlets.values() if not outlet.is_down]
            if not there or any(len(outlet.late) < ROOM for outlet in there):
                return True
            await asyncio.sleep(LOOK_SOON_S)
        self.add(queue, "")
        return False

    def _is_ready(self, queue: str, sink: str) -> bool:
        entry = self._directory.find(queue)
        if entry is None:
            return False
        outlet = entry.backend.outlets.get(sink)
        return outlet is None or (not outlet.is_down and len(outlet.late) < ROOM)


def _end_of(entry: JournalEntry) -> Reported | None:
    stored = entry.stored
    if stored is None or stored.receipt.state != "ended":
        return None
    return reported_of(entry.claimed.claim, stored)
