"""
Containers: start, adopt, watch their limits, stop. Never uploads.

A job stands here once it is both staged and granted, until its container is gone and its log is drained.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar, assert_never

import msgspec

from runner.attempt import Attempt
from runner.calls import Patience
from runner.config import Config
from runner.errors import BadInput, OutOfSpace, RunnerError, Unavailable
from runner.job import EndReason, Key
from runner.kernel import Ref
from runner.limits import Limits
from runner.messages import Ended, Exited, Granted, JobAdopted, QuietChanged, Released, Staged, Started, StopJob
from runner.ports import Chunk, Containers, Exit, Running, World
from runner.records import ClaimedJob, ExitRecord, Grant, Outcome, StagedJob, StartRecord, StopRecord
from runner.stage import FaultBudget, Stage, limit_of, stopped_reason

T = TypeVar("T")
logger = logging.getLogger(__name__)

START_PATIENCE_S = 120.0
WAIT_SLICE_S = 300.0
DRAIN_S = 15.0
SILENCE_S = 300.0


class _JobFailed(msgspec.Struct, frozen=True):
    """Self: a job's own task failed."""

    claim: ClaimedJob
    error: Exception


ExecutorMessage = Granted | Staged | StopJob | JobAdopted | QuietChanged | _JobFailed


@dataclass
class Halves:
    """A job on its way in: it starts when both halves are here."""

    claim: ClaimedJob
    granted: Grant | None = None
    staged: StagedJob | None = None


class Executor(Stage[ExecutorMessage]):
    """Starts what is both staged and granted."""

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

    async def receive(self, message: ExecutorMessage) -> None:
        """Handle one message."""
        match message:
            case Granted():
                await self.blaming(message.claim.key, self._granted(message.claim, message.grant))
            case Staged():
                await self.blaming(message.claim.key, self._staged(message.claim, message.staged))
            case StopJob():
                await self.blaming(message.key, self._stop(message))
            case JobAdopted():
                await self.blaming(message.entry.key, self._adopt(message))
            case _JobFailed():
                await self._give_up(message.claim, message.error)
            case QuietChanged():
                pass
            case _:
                assert_never(message)

    # Both halves

    async def _granted(self, claim: ClaimedJob, grant: Grant) -> None:
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
        if entry.granted is not None:
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

    # One attempt

    def _begin(self, claim: ClaimedJob, staged: StagedJob, grant: Grant) -> None:
        loop = asyncio.get_running_loop()
        limit_s = limit_of(claim, self.config)
        attempt = Attempt(claim, staged, grant, limit_s, stop=loop.create_future(), heard_at=loop.time())
        self._running[claim.key] = attempt
        name = f"run {attempt.name}"
        self.start_soon(self._run, attempt, name=name, on_error=lambda error: _JobFailed(claim, error))

    async def _run(self, attempt: Attempt) -> None:
        claim = attempt.claim
        runtime = self.world.containers.get(claim.runtime)
        outcome = await self._outcome(attempt, runtime)
        await self.trail.record(claim.key, ExitRecord(outcome, self.world.now()))
        if runtime is not None:
            await self._remove(attempt, runtime)
        del self._running[claim.key]
        self._inventory.urgent(Released(claim.key, "compute"))
        await self._outputs.tell(Exited(claim, attempt.staged, attempt.grant, outcome))

    async def _remove(self, attempt: Attempt, runtime: Containers) -> None:
        """Remove what the runtime keeps; how the job ended stands already, and must not be lost over this."""
        try:
            await self._try(lambda: runtime.remove(attempt.name), f"removal of {attempt.name}")
        except RunnerError as error:
            logger.error(
                "a container is left over; `runner doctor` lists it",
                extra={"action": "remove", "job_id": attempt.claim.id, "reason": str(error)},
            )

    async def _outcome(self, attempt: Attempt, runtime: Containers | None) -> Outcome:
        """Run to the end, whatever it is; only bugs are raised."""
        if runtime is None:
            return Outcome(EndReason.RUNNER_FAULT, f"this box has no {attempt.claim.runtime} runtime")
        try:
            running = await self._start(attempt, runtime)
        except BadInput as error:
            await self.trail.say(attempt.claim, str(error))
            return Outcome(EndReason.FAILED, str(error), exit_code=127, ended_at=self.world.now())
        except OutOfSpace as error:
            return Outcome(EndReason.DISK_FULL, str(error), ended_at=self.world.now())
        except Unavailable as error:
            return Outcome(EndReason.RUNNER_FAULT, str(error), ended_at=self.world.now())
        attempt.isolation, attempt.started_at = running.isolation, running.started_at
        await self._stop_again(attempt)
        return await self._watch(attempt, runtime)

    async def _stop_again(self, attempt: Attempt) -> None:
        """Go on with a stop that an earlier life began."""
        key = attempt.claim.key
        entry = await self._try(lambda: self.world.journal.entry(key), f"journal of {key}")
        if entry is not None and entry.stopping is not None:
            attempt.stopping_at = entry.stopping.at
            attempt.end(entry.stopping.reason, entry.stopping.message)

    async def _start(self, attempt: Attempt, runtime: Containers) -> Running:
        claim = attempt.claim
        now = self.world.now()
        entry = await self._try(lambda: self.world.journal.entry(claim.key), f"journal of {claim.key}")
        if entry is None or entry.starting is None:
            await self.trail.record(claim.key, StartRecord(attempt.name, now))
        spec = attempt.spec(entry.starting.at if entry and entry.starting else now, int(self.config.job_shm))
        running = await self._try(lambda: runtime.start(spec), f"start of {attempt.name}")
        if entry is None or entry.starting is None:
            await self.trail.tell_state(claim, "running", f"on {self.world.box.hostname or self.world.box.id}")
        await self._outputs.tell(Started(claim, attempt.staged, running.started_at))
        return running

    async def _watch(self, attempt: Attempt, runtime: Containers) -> Outcome:
        """Follow the log and the limits until the container is gone, then drain the log."""
        async with asyncio.TaskGroup() as group:
            log = group.create_task(self._follow(attempt, runtime))
            limits = group.create_task(self._limits(attempt).watch())
            stopper = group.create_task(self._stop_when_asked(attempt, runtime))
            ended = await self._wait(attempt, runtime)
            limits.cancel()
            stopper.cancel()
            await self._drained(attempt, runtime, log)
        return attempt.judge(ended)

    async def _wait(self, attempt: Attempt, runtime: Containers) -> Exit:
        """Wait in slices, so that a runtime that forgot us is asked again."""
        while True:
            try:
                return await self.caller.once(
                    lambda: runtime.wait(attempt.name), f"end of {attempt.name}", try_s=WAIT_SLICE_S
                )
            except Unavailable:
                await asyncio.sleep(1.0)

    async def _stop_when_asked(self, attempt: Attempt, runtime: Containers) -> None:
        reason, message = await asyncio.shield(attempt.stop)
        if attempt.stopping_at is None:
            attempt.stopping_at = self.world.now()
            await self.trail.record(attempt.claim.key, StopRecord(reason, message, attempt.stopping_at))
        await self.trail.say(attempt.claim, f"stopping: {message}")
        grace = float(attempt.claim.job.stop_grace)
        patience = Patience(try_s=grace + self.caller.patience.try_s)
        await self.caller.until_done(
            lambda: runtime.stop(attempt.name, grace), f"stop of {attempt.name} ({reason})", patience
        )

    def _limits(self, attempt: Attempt) -> Limits:
        workspace = attempt.staged.workspace
        used_bytes = lambda: self.world.workspaces.used_bytes(workspace)  # noqa: E731 - one call, named
        return Limits(attempt, self.caller, now=self.world.now, used_bytes=used_bytes)

    # Its log

    async def _follow(self, attempt: Attempt, runtime: Containers, *, silence_s: float = SILENCE_S) -> None:
        """
        Read the output into the spool to its end.

        After any failure the spool says how many bytes of each stream it has, and reading goes on from there: nothing
        is lost, nothing stands twice.
        """
        key, number = attempt.claim.key, attempt.claim.attempt
        pause = 0.1
        while True:
            try:
                skip = await self.caller.once(lambda: self.world.spool.bytes_written(key, number), f"spool of {key}")
                async for chunk in _with_signs_of_life(runtime.attach(attempt.name, skip), silence_s):
                    attempt.heard_at = asyncio.get_running_loop().time()
                    await self.caller.once(
                        lambda chunk=chunk: self.world.spool.append(key, number, chunk.stream, chunk.data),  # type: ignore[misc]
                        f"spool of {key}",
                    )
                return
            except OutOfSpace as error:
                if attempt.stop.done():
                    await self.trail.say(attempt.claim, "the log was cut off: the disk is full")
                    return  # what it wrote is deleted with its container, which gives room again
                attempt.end(EndReason.DISK_FULL, f"its log cannot be kept: {error}")
            except RunnerError as error:
                logger.warning("reading a log begins again", extra={"action": "attach", "reason": str(error)})
            await asyncio.sleep(pause)
            pause = min(5.0, pause * 2)

    async def _drained(self, attempt: Attempt, runtime: Containers, log: asyncio.Task[None]) -> None:
        """Wait for the end of both streams; what a lost child still holds open is cut off with a mark."""
        _, late = await asyncio.wait({log}, timeout=DRAIN_S)
        if not late:
            return
        log.cancel()
        try:
            async with asyncio.timeout(DRAIN_S + 3 * self.caller.patience.try_s):
                await self._follow(attempt, runtime, silence_s=DRAIN_S)
        except TimeoutError:
            await self.trail.say(attempt.claim, "the log was cut off: something still holds it open")

    # Faults

    async def _give_up(self, claim: ClaimedJob, error: Exception) -> None:
        """End a job whose own task failed: its container is removed in a task of its own, then it leaves."""
        attempt = self._running.pop(claim.key, None)
        message = await self.failed(claim, error)
        if attempt is not None:
            self.start_soon(self._clear, attempt, message, name=f"clear {attempt.name}")

    async def _clear(self, attempt: Attempt, message: str) -> None:
        claim = attempt.claim
        outcome = Outcome(EndReason.RUNNER_FAULT, message, started_at=attempt.started_at, ended_at=self.world.now())
        await self.trail.record(claim.key, ExitRecord(outcome, self.world.now()))
        runtime = self.world.containers[claim.runtime]
        await self._remove(attempt, runtime)
        self._inventory.urgent(Released(claim.key, "compute"))
        await self._outputs.tell(Exited(claim, attempt.staged, attempt.grant, outcome))

    async def _try(self, call: Callable[[], Awaitable[T]], what: str) -> T:
        patience = Patience(try_s=self.caller.patience.try_s, all_s=START_PATIENCE_S)
        return await self.caller.until_done(call, what, patience)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Leave what runs running: the next life adopts it."""
        yield


async def _with_signs_of_life(chunks: AsyncIterator[Chunk], silence_s: float) -> AsyncIterator[Chunk]:
    """
    Yield what a log gives, and give up where it gave nothing for long: reading begins again then, at the same byte.

    Raises:
        Unavailable: nothing came for so long; the job may be silent, or the line to it dead.
    """
    while True:
        try:
            async with asyncio.timeout(silence_s):
                chunk = await anext(chunks, None)
        except TimeoutError as error:
            raise Unavailable(f"its log gave no sign for {silence_s:g} s") from error
        if chunk is None:
            return
        yield chunk
