"""
What reaches a running job from its queue's side: stop marks, and the loss of its claim. Also how deep the queue is.

Only tells; the stage that holds the job ends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from actors.poller.leases import Held
from actors.poller.open_queue import OpenQueue
from runner.errors import RunnerError
from runner.job import EndReason, Key
from runner.kernel import Ref
from runner.messages import StopJob
from runner.quiet import Quiet

REMOVED = "cancelled: its credential file was taken away"
STOPS_S = 5.0
"""So soon a running job hears that it was cancelled from elsewhere, however long its lease."""
DEPTH_S = 20.0


class Lookout:
    """Looks at one queue beside the renewals. ``tell_state`` is told how the queue is, and its depth."""

    def __init__(
        self,
        opened: OpenQueue,
        stages: tuple[Ref[object], ...],
        tell_state: Callable[[str, int | None], None],
        quiet: Quiet,
    ) -> None:
        """Begin with nothing told."""
        self._opened, self._stages, self._tell_state, self._quiet = opened, stages, tell_state, quiet
        # Jobs that carried a stop mark and were told to the stages already.
        self._stop_told: set[str] = set()

    async def look_regularly(self) -> None:
        """
        Read stop marks and the depth again and again, for ever: at least every third of the lease. While a job has the
        box for itself, marks are read with the renewals, and the depth is not.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._repeat(self._read_stop_marks, STOPS_S))
            group.create_task(self._repeat(self._tell_depth, DEPTH_S))

    async def _repeat(self, look: Callable[[], Awaitable[None]], every_s: float) -> None:
        while True:
            await look()
            third = self._opened.queue.lease_s / 3
            await asyncio.sleep(min(every_s, third) if self._quiet.alone is None else third)

    async def _read_stop_marks(self) -> None:
        held_now = self._opened.leases.held
        if not held_now:
            return
        marked = await self._opened.stop_marks()
        for key, held in held_now.items():
            if held.job_id in marked and held.job_id not in self._stop_told:
                self._stop_told.add(held.job_id)
                self.stop(key, held.attempt, EndReason.CANCELLED)

    async def _tell_depth(self) -> None:
        await self._quiet.over()
        await self._opened.stop_marks()  # whose answer says whether results can be reached, before a job needs them
        try:
            self._tell_state("polling", await self._opened.depth())
        except RunnerError as error:
            self._tell_state(f"backing off: {error}", None)

    async def lost(self, key: Key, held: Held) -> None:
        """End an attempt whose claim another box may have; where its verdict stands, settling finds out."""
        entry = await self._opened.trail.entry(key)
        if entry is not None and entry.stored is None and self._opened.leases.give_up(key, held):
            self.stop(key, held.attempt, EndReason.LEASE_LOST)

    def cancel_all(self) -> None:
        """End every job of this queue that is held here."""
        for key, held in self._opened.leases.held.items():
            self.stop(key, held.attempt, EndReason.CANCELLED, REMOVED)

    def stop(self, key: Key, attempt: int, reason: EndReason, message: str = "") -> None:
        """Tell every stage to end an attempt."""
        stop = StopJob(key, attempt, reason, self._opened.now(), message)
        for stage in self._stages:
            stage.urgent(stop)

    def forget(self, job_id: str) -> None:
        """Forget a job that is settled."""
        self._stop_told.discard(job_id)
