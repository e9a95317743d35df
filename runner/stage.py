"""
What the stages of the ring share: one supervised task a job, stop marks, and the account of their own faults.

A stage's task that fails ends its job as ``runner_fault``, with the traceback in the job's log; five in ten minutes,
or any failure in a stage's own ``receive``, end the process, and the journal remembers which job it was.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from runner.calls import Caller, Patience
from runner.errors import RunnerError
from runner.job import EndReason, Key
from runner.kernel import Actor
from runner.quiet import Quiet
from runner.records import ClaimedJob, FaultRecord
from runner.trail import Trail

if TYPE_CHECKING:
    from runner.config import Config
    from runner.messages import StopJob
    from runner.ports import World

M = TypeVar("M")
logger = logging.getLogger(__name__)

MARK_KEPT_S = 3600.0
CHORE_S = 600.0
FAULTS_MAX = 5
FAULTS_WITHIN_S = 600.0


class TooManyFaults(RunnerError):
    """Five jobs' tasks failed within ten minutes: the runner itself must be ill, and restarts."""

    code = "too_many_faults"


class FaultBudget:
    """How many faults of its own the runner forgives; shared by all stages."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Begin with none."""
        self._now = now
        self._at: deque[float] = deque(maxlen=FAULTS_MAX)

    def spend(self) -> bool:
        """Count one fault; False when that was one too many."""
        self._at.append(self._now())
        return len(self._at) < FAULTS_MAX or self._at[-1] - self._at[0] > FAULTS_WITHIN_S


class Stage(Actor[M]):
    """An actor that jobs pass through."""

    name: str = "stage"

    def __init__(self, config: Config, world: World, faults: FaultBudget, quiet: Quiet | None = None) -> None:
        """Keep the world; subclasses add the refs of those they tell. ``quiet`` is the ring's, for who shares it."""
        self.config = config
        self.world = world
        self.faults = faults
        self.caller = Caller(world.random, Patience(try_s=float(config.port_timeout)))
        self.trail = Trail(world, self.caller)
        # Nobody is alone where an actor is told of nobody.
        self.quiet = quiet or Quiet()
        # Jobs to end on arrival: told to every stage, since only one of them holds the job.
        self._marks: dict[Key, tuple[StopJob, float]] = {}

    # Stop marks

    def mark(self, stop: StopJob) -> None:
        """Remember for an hour to end this attempt on arrival."""
        clock = asyncio.get_running_loop().time()
        self._marks = {key: mark for key, mark in self._marks.items() if mark[1] > clock}
        self._marks[stop.key] = (stop, clock + MARK_KEPT_S)

    def marked(self, claim: ClaimedJob) -> StopJob | None:
        """Return the stop that waits for this attempt, once."""
        found = self.is_marked(claim)
        stop, _ = self._marks.pop(claim.key, (None, 0.0))
        return stop if found else None

    def is_marked(self, claim: ClaimedJob) -> bool:
        """Tell whether a stop waits for this attempt."""
        stop, _ = self._marks.get(claim.key, (None, 0.0))
        return stop is not None and stop.attempt == claim.attempt and stop.at >= claim.claimed_at

    # Housekeeping

    async def regularly(self, work: Callable[[], Awaitable[object]], every_s: float, what: str) -> None:
        """
        Do something now and then, for ever, but not while a job has the box for itself; a failure is logged and the
        next turn comes all the same.
        """
        while True:
            await self.quiet.over()
            try:
                await self.caller.once(work, what, try_s=CHORE_S)
            except RunnerError as error:
                logger.warning(
                    "%s did not work", what, extra={"action": "chore", "stage": self.name, "reason": str(error)}
                )
            await asyncio.sleep(every_s)

    # Faults

    async def failed(self, claim: ClaimedJob, error: Exception) -> str:
        """
        Account for a job's task that failed: traceback into its log, one fault off the budget.

        Returns the sentence for the receipt.

        Raises:
            TooManyFaults: the budget is used up; the journal says that it was this job.
        """
        await self.trail.say(claim, "".join(traceback.format_exception(error)))
        logger.error(
            "a job's own task failed",
            exc_info=error,
            extra={"action": "job_failed", "job_id": claim.id, "stage": self.name},
        )
        if not self.faults.spend():
            await self.blame(claim.key)
            raise TooManyFaults from error
        cause = _first(error)
        return f"the runner failed in stage {self.name}: {type(cause).__name__}: {cause}"

    async def blame(self, key: Key) -> None:
        """Record that this job's task made the runner end; twice in one stage, and it is not replayed."""
        entry = await self.trail.entry(key)
        before = entry.faulted if entry else None
        times = before.times + 1 if before is not None and before.stage == self.name else 1
        await self.trail.record(key, FaultRecord(self.name, times, self.world.now()))

    async def blaming(self, key: Key, work: Awaitable[None]) -> None:
        """
        Handle a message about a job; a failure is the actor's own crash, and the journal says whose message it was.
        """
        try:
            await work
        except Exception:
            await self.blame(key)
            raise


def _first(error: Exception) -> Exception:
    """Return the error that a task group wraps, since its own text says nothing."""
    return _first(error.exceptions[0]) if isinstance(error, ExceptionGroup) else error


def stopped_reason(stop: StopJob) -> tuple[EndReason, str]:
    """Return the end reason and sentence of a stop."""
    return stop.reason, stop.message or {
        EndReason.CANCELLED: "cancelled",
        EndReason.LEASE_LOST: "the claim was lost; another box may have the job",
        EndReason.PREEMPTED: "the runner was stopped",
    }.get(stop.reason, stop.reason.value)


def limit_of(claim: ClaimedJob, config: Config) -> float:
    """Return the wall time of one attempt in seconds: the job's, else its queue's, else the box's."""
    limit = claim.job.timeout if claim.job.timeout is not None else claim.rights.timeout_s
    return float(config.timeout if limit is None else limit)
