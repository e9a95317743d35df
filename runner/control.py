"""What a running runner answers on its control socket: cancel, its tables, stop. Never runs a job's stage itself."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from runner.directory import QueueEntry
from runner.errors import Refused, RunnerError, Unavailable
from runner.job import EndReason
from runner.kernel import ActorStopped, Ref, Reply
from runner.messages import GpusAsked, SourcesAsked, StopJob, WithdrawAsked
from runner.ports import Results
from runner.receipt import GpuTable, SourceRow
from runner.records import ClaimedJob, JournalEntry
from runner.ring import Ring

logger = logging.getLogger(__name__)

M = TypeVar("M")
R = TypeVar("R")

ASK_S = 10.0
"""For one question to an actor or a service."""
JOURNALED_S = (0.05, 0.2, 0.75)
"""Between the looks for a job that is claimed just now."""
ANSWER_S = 50.0
"""For all that one answer takes; a client waits for a minute."""


class RunningControl:
    """What the control socket may ask of a running runner (the ``Control`` port)."""

    def __init__(self, ring: Ring) -> None:
        """Begin with no stop under way."""
        self._ring = ring
        self._signalled = False
        self.stopping: asyncio.Future[tuple[bool, float]] = asyncio.get_running_loop().create_future()
        self.hurry, self.left = asyncio.Event(), asyncio.Event()

    async def cancel(self, job_id: str) -> str:
        """
        End a job here, in its queue, or wherever it is; say which.

        Raises:
            Refused: nobody knows the job.
            Unavailable: somebody who may know it did not answer in time.
        """
        return await self._call(lambda: self._cancel(job_id), f"cancelling {job_id}", within_s=ANSWER_S)

    async def _cancel(self, job_id: str) -> str:
        entry = await self._in_hand(job_id)
        if entry is not None:
            return await self._cancel_here(entry)
        silent: list[str] = []
        if done := await self._from_any(lambda queue: self._withdraw(queue, job_id), silent):
            return done
        if entry := await self._just_claimed(job_id):
            return await self._cancel_here(entry)
        if reason := await self._from_any(lambda it: self._end_in(it, job_id), silent) or await self._end_here(job_id):
            return f"{job_id} ended already: {reason}"
        if silent:
            raise Unavailable(f"{job_id} may be where nobody answers, so try again: {'; '.join(silent)}")
        raise Refused(f"no job {job_id!r} is known here; name its queue with --queue to cancel it elsewhere")

    async def _just_claimed(self, job_id: str) -> JournalEntry | None:
        """Look whether it was claimed since; the journal has it a moment after its queue has it no more."""
        for pause_s in JOURNALED_S:
            if (entry := await self._find(job_id)) is not None:
                return entry if entry.settled is None else None
            await asyncio.sleep(pause_s)
        return await self._in_hand(job_id)

    async def _from_any(self, ask: Callable[[QueueEntry], Awaitable[str]], silent: list[str]) -> str:
        """Return the first answer that a queue has; add to ``silent`` why one had none."""
        for queue in self._ring.directory.all():
            try:
                if answer := await ask(queue):
                    return answer
            except RunnerError as error:
                silent.append(str(error))
        return ""

    async def _find(self, job_id: str) -> JournalEntry | None:
        return await self._call(lambda: self._ring.world.journal.find(job_id), f"{job_id} in the journal")

    async def _in_hand(self, job_id: str) -> JournalEntry | None:
        entry = await self._find(job_id)
        return entry if entry is not None and entry.settled is None else None

    async def _withdraw(self, queue: QueueEntry, job_id: str) -> str:
        """Take a job that waits out of its queue; "" where it does not stand there."""
        return await self._ask(queue.poller, functools.partial(WithdrawAsked, job_id), f"queue {queue.name}")

    async def _end_in(self, queue: QueueEntry, job_id: str) -> str:
        """Return why a job ended as a queue's result backend has it, "" where none of that id has."""
        results = queue.results
        if results is None:
            return ""
        ended = await self._call(lambda: results.get(job_id), f"result backend of queue {queue.name}")
        return ended.end_reason or "" if ended is not None and ended.state == "ended" else ""

    async def _end_here(self, job_id: str) -> str:
        """Return why a job ended as this box has it, "" where none of that id has."""
        entry = await self._find(job_id)
        if entry is None or entry.stored is None or not _ended(entry):
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
        journal = self._ring.world.journal
        try:
            await self._call(lambda: results.request_stop(claim.id), f"stop mark of {claim.id}")
            entry = await self._call(lambda: journal.entry(claim.key), f"journal of {claim.key}")
            if entry is not None and _ended(entry):
                await self._call(lambda: results.clear_stop(claim.id), f"stop mark of {claim.id}")
        except RunnerError as error:
            logger.warning("no stop mark was set", extra={"action": "cancel", "job_id": claim.id, "reason": str(error)})

    async def sources(self) -> tuple[SourceRow, ...]:
        """Return the rows of ``runner sources``."""
        return await self._ask(self._ring.address("sources"), SourcesAsked, "the table of sources")

    async def gpus(self) -> GpuTable:
        """Return the table of ``runner gpus``."""
        return await self._ask(self._ring.address("inventory"), GpusAsked, "the table of GPUs")

    async def _ask(self, actor: Ref[M], question: Callable[[Reply[R]], M], what: str) -> R:
        try:
            return await self._call(lambda: actor.ask(question, timeout_s=ASK_S), what)
        except ActorStopped as error:
            raise Unavailable(f"{what}: it was stopped before it answered; ask again") from error

    async def _call(self, call: Callable[[], Awaitable[R]], what: str, *, within_s: float = ASK_S) -> R:
        return await self._ring.caller.once(call, what, try_s=within_s)

    def stop(self, *, leave: bool, grace_s: float | None) -> bool:
        """Begin a drain, or leave; again (False) hurries, and makes a leave of a drain where that is asked for."""
        if self.stopping.done():
            (self.left if leave else self.hurry).set()
            return False
        grace = float(self._ring.config.drain_grace) if grace_s is None else grace_s
        self.stopping.set_result((leave, grace))
        return True

    def drains(self) -> bool:
        """Tell whether a drain or a leave was begun."""
        return self.stopping.done()

    def signalled(self) -> None:
        """
        Begin what ``on_stop`` says, and hurry at the next. The first hurries no drain that was begun by other means.

        For whoever began that, as what runs before a container is stopped, is followed by a signal at once.
        """
        first, self._signalled = not self._signalled, True
        leave = self._ring.config.on_stop == "leave"
        if leave or not first or not self.stopping.done():
            self.stop(leave=leave, grace_s=None)


def _ended(entry: JournalEntry) -> bool:
    return entry.stored is not None and entry.stored.receipt.state == "ended"
