"""
Containers: start, adopt, watch their limits, stop. Never uploads.

A job stands here once it is both staged and granted, until its container is gone and its log is drained.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar, assert_never

import msgspec

from runner.calls import Patience
from runner.config import Config
from runner.errors import BadInput, OutOfSpace, RunnerError, Unavailable
from runner.job import EndReason, Key
from runner.kernel import Ref
from runner.messages import Ended, Exited, Granted, JobAdopted, QuietChanged, Released, Staged, Started, StopJob
from runner.ports import Containers, ContainerSpec, Exit, Running, World
from runner.receipt import Isolation
from runner.records import ClaimedJob, ExitRecord, Grant, Outcome, StagedJob, StartRecord
from runner.stage import FaultBudget, Stage, stopped_reason
from runner.units import format_duration, format_size

T = TypeVar("T")
logger = logging.getLogger(__name__)

START_PATIENCE_S = 120.0
WAIT_SLICE_S = 300.0
DRAIN_S = 15.0
DISK_EVERY_S = 5.0


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


@dataclass
class Attempt:
    """A job that runs."""

    claim: ClaimedJob
    staged: StagedJob
    grant: Grant
    # Set once, by whoever ends it first: its limits, its user, the runner.
    stop: asyncio.Future[tuple[EndReason, str]]
    # Loop seconds of the last output, for ``silent_for``.
    heard_at: float
    isolation: Isolation = field(default_factory=Isolation)
    started_at: float | None = None

    @property
    def name(self) -> str:
        """The container's name, unique on the box."""
        return f"{self.claim.key}.{self.claim.attempt}"

    def end(self, reason: EndReason, message: str) -> None:
        """Ask for the end; the first reason stands."""
        if not self.stop.done():
            self.stop.set_result((reason, message))


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
        attempt = Attempt(claim, staged, grant, stop=loop.create_future(), heard_at=loop.time())
        self._running[claim.key] = attempt
        name = f"run {attempt.name}"
        self.start_soon(self._run, attempt, name=name, on_error=lambda error: _JobFailed(claim, error))

    async def _run(self, attempt: Attempt) -> None:
        claim = attempt.claim
        runtime = self.world.containers.get(claim.runtime)
        outcome = await self._outcome(attempt, runtime)
        await self.record(claim.key, ExitRecord(outcome, self.world.now()))
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
            await self.say(attempt.claim, str(error))
            return Outcome(EndReason.FAILED, str(error), exit_code=127, ended_at=self.world.now())
        except OutOfSpace as error:
            return Outcome(EndReason.DISK_FULL, str(error), ended_at=self.world.now())
        except Unavailable as error:
            return Outcome(EndReason.RUNNER_FAULT, str(error), ended_at=self.world.now())
        attempt.isolation, attempt.started_at = running.isolation, running.started_at
        return await self._watch(attempt, runtime)

    async def _start(self, attempt: Attempt, runtime: Containers) -> Running:
        claim = attempt.claim
        now = self.world.now()
        entry = await self._try(lambda: self.world.journal.entry(claim.key), f"journal of {claim.key}")
        if entry is None or entry.starting is None:
            await self.record(claim.key, StartRecord(attempt.name, now))
        spec = self._spec(attempt, entry.starting.at if entry and entry.starting else now)
        running = await self._try(lambda: runtime.start(spec), f"start of {attempt.name}")
        if entry is None or entry.starting is None:
            await self.tell_state(claim, "running", f"on {self.world.box.hostname or self.world.box.id}")
        await self._outputs.tell(Started(claim, attempt.staged, running.started_at))
        return running

    def _spec(self, attempt: Attempt, starting_at: float) -> ContainerSpec:
        claim, job = attempt.claim, attempt.claim.job
        shm = self.config.job_shm if job.resources.shm is None else job.resources.shm
        return ContainerSpec(
            name=attempt.name,
            key=claim.key,
            attempt=claim.attempt,
            command=job.command,
            env={**job.env, "RUNNER_JOB_ID": claim.id, "RUNNER_ATTEMPT": str(claim.attempt)},
            workspace=attempt.staged.workspace,
            grant=attempt.grant,
            image=attempt.staged.image,
            shm=int(shm),
            paths=claim.rights.paths,
            deadline_at=starting_at + self._limit_s(claim),
        )

    def _limit_s(self, claim: ClaimedJob) -> float:
        limit = claim.job.timeout if claim.job.timeout is not None else claim.rights.timeout_s
        return float(self.config.timeout if limit is None else limit)

    async def _watch(self, attempt: Attempt, runtime: Containers) -> Outcome:
        """Follow the log and the limits until the container is gone, then drain the log."""
        async with asyncio.TaskGroup() as group:
            log = group.create_task(self._follow(attempt, runtime))
            limits = group.create_task(self._limits(attempt))
            stopper = group.create_task(self._stop_when_asked(attempt, runtime))
            ended = await self._wait(attempt, runtime)
            limits.cancel()
            stopper.cancel()
            await self._drained(attempt, log)
        return self._judge(attempt, ended)

    async def _wait(self, attempt: Attempt, runtime: Containers) -> Exit:
        """Wait in slices, so that a runtime that forgot us is asked again."""
        patience = Patience(try_s=WAIT_SLICE_S)
        return await self.caller.until_done(lambda: runtime.wait(attempt.name), f"end of {attempt.name}", patience)

    async def _stop_when_asked(self, attempt: Attempt, runtime: Containers) -> None:
        reason, message = await asyncio.shield(attempt.stop)
        await self.say(attempt.claim, f"stopping: {message}")
        grace = float(attempt.claim.job.stop_grace)
        patience = Patience(try_s=grace + self.caller.patience.try_s)
        await self.caller.until_done(
            lambda: runtime.stop(attempt.name, grace), f"stop of {attempt.name} ({reason})", patience
        )

    def _judge(self, attempt: Attempt, ended: Exit) -> Outcome:
        reason, message = self._reason(attempt, ended)
        return Outcome(
            reason,
            message,
            exit_code=ended.code,
            started_at=attempt.started_at,
            ended_at=ended.ended_at,
            usage=ended.usage,
            isolation=attempt.isolation,
        )

    def _reason(self, attempt: Attempt, ended: Exit) -> tuple[EndReason, str]:
        if attempt.stop.done() and ended.code != 0:
            return attempt.stop.result()
        if ended.oom:
            limit = format_size(attempt.grant.here.memory)
            return EndReason.OOM, f"out of memory: killed at its limit of {limit}"
        if ended.code is None:
            return EndReason.RUNNER_FAULT, ended.message or "the container vanished, and nobody knows how it ended"
        if ended.code == 0:
            return EndReason.SUCCEEDED, "succeeded"
        return EndReason.FAILED, ended.message or _exit_words(ended.code)

    # Its log

    async def _follow(self, attempt: Attempt, runtime: Containers) -> None:
        """
        Read the output into the spool to its end.

        After any failure the spool says how many bytes of each stream it has, and reading goes on from there: nothing is
        lost, nothing stands twice.
        """
        key, number = attempt.claim.key, attempt.claim.attempt
        pause = 0.1
        while True:
            try:
                skip = await self.caller.once(lambda: self.world.spool.bytes_written(key, number), f"spool of {key}")
                async for chunk in runtime.attach(attempt.name, skip):
                    attempt.heard_at = asyncio.get_running_loop().time()
                    await self.caller.once(
                        lambda chunk=chunk: self.world.spool.append(key, number, chunk.stream, chunk.data),  # type: ignore[misc]
                        f"spool of {key}",
                    )
                return
            except OutOfSpace as error:
                attempt.end(EndReason.DISK_FULL, f"its log cannot be kept: {error}")
            except RunnerError as error:
                logger.warning("reading a log begins again", extra={"action": "attach", "reason": str(error)})
            await asyncio.sleep(pause)
            pause = min(5.0, pause * 2)

    async def _drained(self, attempt: Attempt, log: asyncio.Task[None]) -> None:
        """Wait for the end of both streams; what a lost child still holds open is cut off with a mark."""
        _, late = await asyncio.wait({log}, timeout=DRAIN_S + self.caller.patience.try_s)
        if late:
            log.cancel()
            await self.say(attempt.claim, "the log was cut off: something still holds it open")

    # Its limits

    async def _limits(self, attempt: Attempt) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._limit_time(attempt))
            group.create_task(self._limit_disk(attempt))
            if attempt.claim.job.silent_for is not None:
                group.create_task(self._limit_silence(attempt, float(attempt.claim.job.silent_for)))

    async def _limit_time(self, attempt: Attempt) -> None:
        limit = self._limit_s(attempt.claim)
        ran = self.world.now() - (attempt.started_at or self.world.now())
        await asyncio.sleep(max(0.0, limit - ran))
        attempt.end(EndReason.TIMEOUT, f"ran longer than its limit of {format_duration(limit)}")

    async def _limit_silence(self, attempt: Attempt, limit: float) -> None:
        clock = asyncio.get_running_loop().time
        while (left := attempt.heard_at + limit - clock()) > 0:
            await asyncio.sleep(left)
        attempt.end(EndReason.SILENT, f"no output for {format_duration(limit)}")

    async def _limit_disk(self, attempt: Attempt) -> None:
        limit = attempt.grant.here.disk
        while True:
            await asyncio.sleep(DISK_EVERY_S)
            try:
                used = await self.caller.once(
                    lambda: self.world.workspaces.used_bytes(attempt.staged.workspace), "size of the workspace"
                )
            except RunnerError:
                continue  # measured again at the next turn
            if used > limit:
                text = f"its workspace holds {format_size(used)}, {format_size(limit)} was granted"
                attempt.end(EndReason.DISK_EXCEEDED, text)
                return

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
        await self.record(claim.key, ExitRecord(outcome, self.world.now()))
        runtime = self.world.containers[claim.runtime]
        await self._try(lambda: runtime.stop(attempt.name, 0.0), f"stop of {attempt.name}")
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


def _exit_words(code: int) -> str:
    return f"ended by signal {code - 128}" if code > 128 else f"exit code {code}"  # noqa: PLR2004 - 128+n by convention
