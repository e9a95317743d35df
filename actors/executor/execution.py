"""
One attempt from its start to its end: started or adopted, watched, stopped when asked, judged, removed.

Tells no other stage anything. What runs goes on without it: cancelled here, it is adopted by the next life.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from actors.executor.absence import Absence, Absences
from actors.executor.attempt import Attempt, StoppedEarly
from actors.executor.capture import Capture
from actors.executor.judging import outcome_of
from actors.executor.limits import Limits
from runner.calls import Caller, Patience
from runner.environment import taken_from, told
from runner.errors import OutOfSpace, RunnerError, Unavailable
from runner.ports import Containers, ContainerSpec, Exit, Running, World
from runner.records import ExitRecord, Outcome, StartRecord, StopRecord
from runner.trail import Trail

T = TypeVar("T")
logger = logging.getLogger(__name__)

START_PATIENCE_S = 120.0
WAIT_SLICE_S = 300.0
NOTE_WITHIN_S = 5.0
GIVE_UP_S = 300.0
"""After its grace, what cannot be ended is left; the job must not wait for it for ever."""


class Execution:
    """One attempt in one runtime."""

    def __init__(
        self,
        attempt: Attempt,
        runtime: Containers,
        world: World,
        caller: Caller,
        trail: Trail,
        *,
        absences: Absences,
    ) -> None:
        """Begin before its start; an attempt that runs already is found again by its name."""
        self._attempt, self._runtime = attempt, runtime
        self._world, self._caller, self._trail = world, caller, trail
        self._capture = Capture(attempt, runtime, world.spool, caller, trail)
        self._absence = Absence(attempt.claim, trail, absences)
        # Why it could not be stopped, at the last try.
        self._trouble = ""

    async def start(self, shm: int) -> Running:
        """
        Start the container, or find the one that an earlier life started; ``shm`` bytes unless the job says.

        Raises:
            BadInput: the job's command cannot be started.
            OutOfSpace: the disk is full.
            Unavailable: the runtime did not do it within its patience.
            StoppedEarly: it was to be stopped before it began; what a failed try may have begun is to be removed.
        """
        attempt, claim, now, up_s = self._attempt, self._attempt.claim, self._world.now(), self._world.up_s()
        entry = await self._trail.entry(claim.key)
        before = entry.starting if entry is not None else None
        if before is None:
            await self._trail.record(claim.key, StartRecord(attempt.name, now, up_s))
            if taken := taken_from(claim.job.env):
                await self._trail.say(claim, told(taken))
        attempt.ends_at = (now if before is None else before.at) + attempt.limit_s
        spec = attempt.spec(shm)
        # What an earlier life began may run, and is found first, so that it is stopped with its grace.
        begin = self._begin if before is None else self._runtime.start
        running = await self._try(lambda: begin(spec), f"start of {attempt.name}")
        if before is None:
            box = self._world.box
            await self._trail.tell_state(claim, "running", f"on {box.hostname or box.id}")
        attempt.isolation, attempt.started_at = running.isolation, running.started_at
        attempt.began_up_s = self._world.up_s() if before is None else before.up_s
        if before is not None and before.up_s is not None and before.up_s > up_s:
            attempt.booted_at = now - up_s
        attempt.told_at = spec.deadline_at if before is None else None
        await self.tell_deadline()
        return running

    async def tell_deadline(self) -> None:
        """
        Tell the job when it ends, where it knows otherwise; one that an earlier life started may have been told.

        One that is being started is told once it runs.
        """
        attempt, at, told_at = self._attempt, self._attempt.deadline_at, self._attempt.told_at
        if attempt.started_at is None or at is None or at == told_at or attempt.stop.done():
            return
        attempt.told_at = at
        tell = lambda: self._runtime.tell_deadline(attempt.name, at)  # noqa: E731 - one call, named
        try:
            await self._caller.once(tell, f"deadline of {attempt.name}")
        except RunnerError as error:
            facts = {"action": "tell_deadline", "job_id": attempt.claim.id, "reason": str(error)}
            logger.warning("a job does not know when it ends", extra=facts)
        if at == attempt.stops_at:
            moment = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
            await self._trail.say(attempt.claim, f"the runner drains: this job is stopped at {moment} if it still runs")
        elif told_at is not None:
            await self._trail.say(attempt.claim, "the runner does not drain any more: only the job's own limits count")

    async def _begin(self, spec: ContainerSpec) -> Running:
        if self._attempt.stop.done():
            raise StoppedEarly
        return await self._runtime.start(spec)

    async def watch(self) -> Outcome:
        """Follow the log and the limits until the container is gone, then drain the log."""
        await self._stop_again()
        ran_s = self._attempt.ran_s(self._world.now(), self._world.up_s())
        self._attempt.log.rate.begin(asyncio.get_running_loop().time(), ran_s)
        async with asyncio.TaskGroup() as group:
            log = group.create_task(self._capture.follow())
            limits = group.create_task(self._limits().watch())
            stopper = group.create_task(self._stop_when_asked())
            ended = await self._ended(group)
            limits.cancel()
            stopper.cancel()
            await self._capture.drained(log)
            if ended.log_gap:
                await self._capture.tell_gap(ended.log_gap)
        return outcome_of(self._attempt, ended)

    async def _stop_again(self) -> None:
        """Go on with a stop that an earlier life began."""
        entry = await self._trail.entry(self._attempt.claim.key)
        if entry is not None and entry.stopping is not None:
            self._attempt.stopping_at = entry.stopping.at
            self._attempt.end(entry.stopping.reason, entry.stopping.message)

    async def _ended(self, group: asyncio.TaskGroup) -> Exit:
        """Wait for its end, or until nothing could end it."""
        waits = {group.create_task(self._wait()), group.create_task(self._give_up())}
        done, late = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in late:
            task.cancel()
        return done.pop().result()

    async def _wait(self) -> Exit:
        """Wait in slices."""
        name = self._attempt.name
        while True:
            try:
                if self._absence.is_on:
                    await self._caller.once(lambda: self._runtime.adopt(name), f"look at {name}")
                    await self._absence.over()
                async with asyncio.timeout(WAIT_SLICE_S):
                    return await self._runtime.wait(name)
            except Unavailable as error:
                await self._absence.noticed(error)
            except TimeoutError:
                pass  # a runtime that forgot us is asked again
            await asyncio.sleep(1.0)

    async def _give_up(self) -> Exit:
        """Return once it was told to stop, and lived on for long after its grace."""
        await asyncio.shield(self._attempt.stop)
        await asyncio.sleep(float(self._attempt.claim.job.stop_grace) + GIVE_UP_S)
        trouble = self._trouble or "its processes do not die"
        left = "what is left of it is removed once that works"
        return Exit(None, self._world.now(), message=f"it could not be ended: {trouble}; {left}")

    async def _stop_when_asked(self) -> None:
        attempt, claim = self._attempt, self._attempt.claim
        reason, message = await asyncio.shield(attempt.stop)
        if attempt.stopping_at is None:
            attempt.stopping_at = self._world.now()
            await self._note(StopRecord(reason, message, attempt.stopping_at))
        await self._trail.say(claim, f"stopping: {message}")
        grace_s = attempt.stop_grace_s
        patience = Patience(try_s=grace_s + self._caller.patience.try_s)
        await self._caller.until_done(lambda: self._stop(grace_s), f"stop of {attempt.name} ({reason})", patience)

    async def _stop(self, grace_s: float) -> None:
        try:
            await self._runtime.stop(self._attempt.name, grace_s)
        except RunnerError as error:
            self._trouble = str(error)
            raise

    async def _note(self, record: StopRecord) -> None:
        """Journal why it is stopped, for the next life; a full disk may be full of what this very job writes."""
        try:
            await self._trail.record(self._attempt.claim.key, record, within_s=NOTE_WITHIN_S)
        except RunnerError as error:
            facts = {"action": "stop", "job_id": self._attempt.claim.id, "reason": str(error)}
            logger.warning("a job is stopped though the journal cannot say why", extra=facts)

    async def end(self, outcome: Outcome) -> None:
        """Journal how it ended, then remove it; one that was stopped goes first where only that makes room."""
        key, record = self._attempt.claim.key, ExitRecord(outcome, self._world.now())
        try:
            await self._trail.record(key, record, within_s=NOTE_WITHIN_S if self._attempt.stop.done() else math.inf)
        except RunnerError as error:
            if isinstance(error, OutOfSpace):
                await self._remove()
            await self._trail.record(key, record)
        await self._remove()

    def _limits(self) -> Limits:
        workspace, key = self._attempt.staged.workspace, self._attempt.claim.key

        async def used_bytes() -> int:
            beside = await self._runtime.disk_bytes(self._attempt.name) + await self._world.spool.disk_bytes(key)
            return beside + await self._world.workspaces.used_bytes(workspace)

        return Limits(self._attempt, self._caller, self._world, used_bytes=used_bytes)

    async def _remove(self) -> None:
        """Remove what the runtime keeps; how the job ended stands already, and must not be lost over this."""
        name = self._attempt.name
        try:
            await self._try(lambda: self._runtime.remove(name), f"removal of {name}")
        except RunnerError as error:
            facts = {"action": "remove", "job_id": self._attempt.claim.id, "reason": str(error)}
            logger.error("a container is left over, and removed once that works", extra=facts)

    async def _try(self, call: Callable[[], Awaitable[T]], what: str) -> T:
        patience = Patience(try_s=self._caller.patience.try_s, all_s=START_PATIENCE_S)
        return await self._caller.until_done(call, what, patience)
