"""
Containers: start, adopt, watch their limits, stop. Never uploads.

A job stands here once it is both staged and granted, until its container is gone and its log is drained.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import assert_never

import msgspec

from actors.executor.absence import Absences
from actors.executor.attempt import Attempt, StoppedEarly
from actors.executor.execution import Execution
from actors.executor.log_rate import LineRate
from actors.executor.log_room import LogRoom
from runner.config import Config
from runner.errors import BadInput, ImageGone, OutOfSpace, Unavailable
from runner.job import EndReason, Key
from runner.kernel import Ref
from runner.leaving import STOP_SHARE
from runner.messages import (
    Ended,
    Exited,
    Granted,
    JobAdopted,
    PulseAsked,
    Released,
    Staged,
    Started,
    StopAnnounced,
    StopJob,
)
from runner.ports import World
from runner.records import ClaimedJob, ExitRecord, Grant, Outcome, StagedJob
from runner.stage import FaultBudget, Stage, limit_of, stopped_reason


class _JobFailed(msgspec.Struct, frozen=True):
    """Self: a job's own task failed."""

    claim: ClaimedJob
    error: Exception


ExecutorMessage = Granted | Staged | StopJob | StopAnnounced | JobAdopted | PulseAsked | _JobFailed


@dataclass
class Halves:
    """A job on its way in: it starts when both halves are here."""

    claim: ClaimedJob
    granted: Grant | None = None
    staged: StagedJob | None = None


class Executor(Stage[ExecutorMessage]):
    """Starts what is both staged and granted. What runs when it ends goes on running: the next life adopts it."""

    name = "executor"

    def __init__(
        self,
        config: Config,
        world: World,
        faults: FaultBudget,
        *,
        inventory: Ref[Released],
        outputs: Ref[Started | Exited | Ended],
    ) -> None:
        super().__init__(config, world, faults)
        self._inventory, self._outputs = inventory, outputs
        self._halves: dict[Key, Halves] = {}
        self._running: dict[Key, Attempt] = {}
        # Epoch seconds when the runner stops what runs; None: it does not.
        self._stops_at: float | None = None
        # Which runtimes do not answer.
        self._absences = Absences()

    async def receive(self, message: ExecutorMessage) -> None:
        """Handle one message."""
        match message:
            case Granted():
                await self.blaming(message.claim.key, self._granted(message.claim, message.grant))
            case Staged():
                await self.blaming(message.claim.key, self._staged(message.claim, message.staged))
            case StopJob():
                await self.blaming(message.key, self._stop(message))
            case StopAnnounced():
                self._announce(message)
            case JobAdopted():
                await self.blaming(message.entry.key, self._adopt(message))
            case _JobFailed():
                await self._give_up(message.claim, message.error)
            case PulseAsked():
                message.reply.answer(None)
            case _:
                assert_never(message)

    # Both halves

    async def _granted(self, claim: ClaimedJob, grant: Grant) -> None:
        if self.is_marked(claim):
            return  # the stage that had it may have ended it already: nothing would come for this half any more
        self._halves_of(claim).granted = grant
        await self._start_if_whole(claim)

    async def _staged(self, claim: ClaimedJob, staged: StagedJob) -> None:
        stop = self.marked(claim)
        if stop is not None:
            self._halves.pop(claim.key, None)
            await self._outputs.tell(Ended(claim, *stopped_reason(stop)))
            return
        self._halves_of(claim).staged = staged
        await self._start_if_whole(claim)

    def _halves_of(self, claim: ClaimedJob) -> Halves:
        found = self._halves.get(claim.key)
        if found is None or found.claim.attempt != claim.attempt:
            found = self._halves[claim.key] = Halves(claim)
        return found

    async def _start_if_whole(self, claim: ClaimedJob) -> None:
        halves = self._halves[claim.key]
        if halves.granted is not None and halves.staged is not None:
            del self._halves[claim.key]
            self._begin(claim, halves.staged, halves.granted)

    async def _adopt(self, adopted: JobAdopted) -> None:
        """Take back what runs; take up the halves of what does not run yet."""
        entry = adopted.entry
        if entry.exited is not None or entry.stored is not None:
            return
        claim = entry.claimed.claim
        if entry.granted is not None and entry.placed is not None:  # else it is offered anew, and may get another place
            self._halves_of(claim).granted = entry.granted.grant
        if entry.staged is not None:
            self._halves_of(claim).staged = entry.staged.staged
        if claim.key in self._halves:
            await self._start_if_whole(claim)

    async def _stop(self, stop: StopJob) -> None:
        attempt = self._running.get(stop.key)
        if attempt is not None and attempt.claim.attempt == stop.attempt:
            attempt.end(*stopped_reason(stop))
            return
        halves = self._halves.get(stop.key)
        if halves is not None and halves.claim.attempt == stop.attempt:
            del self._halves[stop.key]
            if halves.staged is not None:
                await self._outputs.tell(Ended(halves.claim, *stopped_reason(stop)))
                return
        self.mark(stop)

    def _announce(self, announced: StopAnnounced) -> None:
        """Tell all that run, and all that will, when they are stopped."""
        self._stops_at = announced.at
        for attempt in self._running.values():
            attempt.stops_at = announced.at
        self.start_soon(self._tell_all, announced, name=f"announce {id(announced)}")

    async def _tell_all(self, announced: StopAnnounced) -> None:
        async with asyncio.TaskGroup() as group:
            for attempt in self._running.values():
                if (execution := self._execution(attempt)) is not None:
                    group.create_task(execution.tell_deadline())
        announced.reply.answer(None)

    # One attempt

    def _begin(self, claim: ClaimedJob, staged: StagedJob, grant: Grant) -> None:
        loop = asyncio.get_running_loop()
        limits_s = limit_of(claim, self.config), STOP_SHARE * self.config.preempt_grace
        attempt = Attempt(claim, staged, grant, *limits_s, stop=loop.create_future(), heard_at=loop.time())
        attempt.stops_at = self._stops_at
        attempt.log = self._log_room(claim, grant)
        self._running[claim.key] = attempt
        stop = self.marked(claim)  # one that overtook the news of a job to adopt
        if stop is not None:
            attempt.end(*stopped_reason(stop))
        name = f"run {attempt.name}"
        self.start_soon(self._run, attempt, name=name, on_error=lambda error: _JobFailed(claim, error))

    def _log_room(self, claim: ClaimedJob, grant: Grant) -> LogRoom:
        overflow = self.config.log_overflow
        if overflow == "pause" and claim.runtime == "process":
            # It writes to files, which hold nobody back; stopped by a signal, it would stay so without a runner.
            overflow = "truncate"
        return LogRoom(int(self.config.log_max) or grant.here.disk, overflow, LineRate(self.config.log_rate))

    async def _run(self, attempt: Attempt) -> None:
        execution = self._execution(attempt)
        await self._leave(attempt, execution, await self._outcome(attempt, execution))

    def _execution(self, attempt: Attempt) -> Execution | None:
        """Return what executes an attempt, None where the box has no such runtime."""
        runtime = self.world.containers.get(attempt.claim.runtime)
        if runtime is None:
            return None
        return Execution(attempt, runtime, self.world, self.caller, self.trail, absences=self._absences)

    async def _outcome(self, attempt: Attempt, execution: Execution | None) -> Outcome:
        """Run to the end, whatever it is; only bugs are raised."""
        if execution is None:
            return Outcome(EndReason.RUNNER_FAULT, f"this box has no {attempt.claim.runtime} runtime")
        try:
            running = await execution.start(int(self.config.job_shm))
        except BadInput as error:
            await self.trail.say(attempt.claim, str(error))
            return Outcome(EndReason.FAILED, str(error), exit_code=127, ended_at=self.world.now())
        except (StoppedEarly, ImageGone, OutOfSpace, Unavailable) as error:
            return Outcome(*attempt.why_not_begun(error), ended_at=self.world.now())
        await self._outputs.tell(Started(attempt.claim, attempt.staged, running.started_at))
        return await execution.watch()

    async def _leave(self, attempt: Attempt, execution: Execution | None, outcome: Outcome) -> None:
        """Journal how it ended and remove its container; then give back what it held, and pass it on."""
        claim = attempt.claim
        if execution is None:
            await self.trail.record(claim.key, ExitRecord(outcome, self.world.now()))
        else:
            await execution.end(outcome)
        if self._running.get(claim.key) is attempt:
            del self._running[claim.key]
        self._inventory.urgent(Released(claim.key, "compute", claim.claimed_at))
        await self._outputs.tell(Exited(claim, attempt.staged, attempt.grant, outcome))

    # Faults

    async def _give_up(self, claim: ClaimedJob, error: Exception) -> None:
        """End a job whose own task failed: its container is removed in a task of its own, then it leaves."""
        attempt = self._running.pop(claim.key, None)
        message = await self.failed(claim, error)
        if attempt is not None:
            self.start_soon(self._clear, attempt, message, name=f"clear {attempt.name}")

    async def _clear(self, attempt: Attempt, message: str) -> None:
        outcome = Outcome(EndReason.RUNNER_FAULT, message, started_at=attempt.started_at, ended_at=self.world.now())
        await self._leave(attempt, self._execution(attempt), outcome)
