"""What a running runner answers on its control socket: cancel, its tables, stop. Never runs a job's stage itself."""

from __future__ import annotations

import asyncio
import functools
import logging

from runner.errors import Refused, RunnerError
from runner.job import EndReason
from runner.messages import GpusAsked, SourcesAsked, StopJob, WithdrawAsked
from runner.ports import Results
from runner.receipt import GpuTable, SourceRow
from runner.records import ClaimedJob, JournalEntry
from runner.ring import Ring

logger = logging.getLogger(__name__)

ASK_S = 10.0


class RunningControl:
    """What the control socket may ask of a running runner (the ``Control`` port)."""

    def __init__(self, ring: Ring) -> None:
        """Begin with no stop under way."""
        self._ring = ring
        self.stopping: asyncio.Future[tuple[bool, float]] = asyncio.get_running_loop().create_future()
        self.hurry = asyncio.Event()

    async def cancel(self, job_id: str) -> str:
        """End a job here, in its queue, or wherever it is; say which."""
        entry = await self._in_hand(job_id)
        if entry is not None:
            return await self._cancel_here(entry)
        if done := await self._withdraw(job_id):
            return done
        entry = await self._in_hand(job_id)  # claimed between the two looks
        if entry is not None:
            return await self._cancel_here(entry)
        if reason := await self._end_of(job_id):
            return f"{job_id} ended already: {reason}"
        raise Refused(f"no job {job_id!r} is known here; name its queue with --queue to cancel it elsewhere")

    async def _in_hand(self, job_id: str) -> JournalEntry | None:
        entry = await self._ring.world.journal.find(job_id)
        return entry if entry is not None and entry.settled is None else None

    async def _withdraw(self, job_id: str) -> str:
        """Take a job that waits out of its queue; "" where it stands in none."""
        for queue in self._ring.directory.all():
            done: str = await queue.poller.ask(functools.partial(WithdrawAsked, job_id), timeout_s=ASK_S)
            if done:
                return done
        return ""

    async def _end_of(self, job_id: str) -> str:
        """Return why a job ended, "" where none of that id has."""
        for queue in self._ring.directory.all():
            if queue.results is not None and (ended := await queue.results.get(job_id)) and ended.state == "ended":
                return ended.end_reason or ""
        entry = await self._ring.world.journal.find(job_id)
        if entry is None or entry.stored is None or entry.stored.receipt.state != "ended":
            return ""
        return entry.stored.receipt.end_reason or ""

    async def _cancel_here(self, entry: JournalEntry) -> str:
        claim = entry.claimed.claim
        if entry.exited is not None or entry.stored is not None:
            return f"{claim.id} has ended already; its outputs are being stored"
        queue = self._ring.directory.find(claim.queue)
        if queue is not None and queue.results is not None:
            await self._mark(claim, queue.results)
        for stage in self._ring.stages:
            stage.urgent(StopJob(claim.key, claim.attempt, EndReason.CANCELLED, self._ring.world.now(), "cancelled"))
        return f"{claim.id} is being stopped on this box"

    async def _mark(self, claim: ClaimedJob, results: Results) -> None:
        """
        Set a stop mark, so that the stop holds even if the runner is killed now; it is told to the stages anyway.

        One that came too late is taken back: it must not end the next job of this id.
        """
        world, caller = self._ring.world, self._ring.caller
        try:
            await caller.once(lambda: results.request_stop(claim.id), f"stop mark of {claim.id}")
            entry = await caller.once(lambda: world.journal.entry(claim.key), f"journal of {claim.key}")
            if entry is not None and _ended(entry):
                await caller.once(lambda: results.clear_stop(claim.id), f"stop mark of {claim.id}")
        except RunnerError as error:
            logger.warning("no stop mark was set", extra={"action": "cancel", "job_id": claim.id, "reason": str(error)})

    async def sources(self) -> tuple[SourceRow, ...]:
        """Return the rows of ``runner sources``."""
        return await self._ring.address("sources").ask(SourcesAsked, timeout_s=ASK_S)

    async def gpus(self) -> GpuTable:
        """Return the table of ``runner gpus``."""
        return await self._ring.address("inventory").ask(GpusAsked, timeout_s=ASK_S)

    def stop(self, *, leave: bool, grace_s: float | None) -> None:
        """Begin a drain, or leave; again hurries."""
        if self.stopping.done():
            self.hurry.set()
            return
        grace = float(self._ring.config.drain_grace) if grace_s is None else grace_s
        self.stopping.set_result((leave, grace))


def _ended(entry: JournalEntry) -> bool:
    return entry.stored is not None and entry.stored.receipt.state == "ended"
