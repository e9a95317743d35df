"""How inventory hands a job on: the journal has it first, then the next stage is told."""

from __future__ import annotations

from collections.abc import Callable

from actors.inventory.standing import Standing
from runner.kernel import Ref
from runner.messages import Granted, Placed
from runner.records import Grant, GrantRecord, PlaceRecord, WaitRecord
from runner.trail import Trail


class Handover:
    """Awaits the journal, so each call is made in a task of its job; one that is cut off is made again at adoption."""

    def __init__(self, trail: Trail, now: Callable[[], float], *, cache: Ref[Placed], executor: Ref[object]) -> None:
        """Keep whom to tell; ``now`` is wall time."""
        self._trail, self._now, self._cache, self._executor = trail, now, cache, executor

    async def explain(self, standing: Standing, why: str) -> None:
        """Write why a job waits, unless it was granted meanwhile."""
        if standing.waits:
            await self._trail.record(standing.claim.key, WaitRecord(why, self._now()))

    async def place(self, standing: Standing) -> None:
        """Have a job staged: its disk is granted."""
        claim, disk = standing.claim, standing.request.disk
        await self._trail.record(claim.key, PlaceRecord(disk, self._now()))
        await self._cache.tell(Placed(claim, disk))

    async def grant(self, standing: Standing, *, placed_before: bool) -> None:
        """Let a job start once it is staged: it holds its place; one that was not placed before is staged now."""
        if standing.place is None:
            return
        grant = Grant((standing.place,))
        await self._trail.record(standing.claim.key, GrantRecord(grant, self._now()))
        self._executor.urgent(Granted(standing.claim, grant))
        if not placed_before:
            await self.place(standing)
