"""
GPUs, cores, memory and disk: every grant and release, fair share, and the credits by which queues are read.

Never touches a queue or a container. A job stands here from its offer until the last of its grant is given back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import assert_never

import msgspec

from actors.inventory.beats import Beats
from actors.inventory.capacity import Capacity
from actors.inventory.comebacks import Comebacks
from actors.inventory.credits import Credits
from actors.inventory.floor import Due, Floor
from actors.inventory.granting import Granting, Waits, place_of
from actors.inventory.handover import Handover
from actors.inventory.reminders import Reminders, Turn
from actors.inventory.solitude import Solitude
from actors.inventory.standing import Standing
from runner.config import Config
from runner.directory import Directory
from runner.job import EndReason
from runner.kernel import Ref
from runner.messages import (
    CreditReturned,
    Ended,
    GpusAsked,
    JobAdopted,
    Offered,
    Placed,
    ProbeReported,
    PulseAsked,
    QuietChanged,
    Released,
    RestChanged,
    StopCredits,
    StopJob,
)
from runner.ports import World
from runner.quiet import Quiet
from runner.records import ClaimedJob, Place
from runner.stage import FaultBudget, Stage, limit_of, stopped_reason


class _JobFailed(msgspec.Struct, frozen=True):
    """Self: a job's own task failed."""

    claim: ClaimedJob
    error: Exception


InventoryMessage = (
    Offered
    | RestChanged
    | Released
    | CreditReturned
    | StopJob
    | JobAdopted
    | GpusAsked
    | ProbeReported
    | StopCredits
    | PulseAsked
    | Turn
    | _JobFailed
)


class Inventory(Stage[InventoryMessage]):
    """The box's account of itself."""

    name = "inventory"

    def __init__(
        self,
        config: Config,
        world: World,
        faults: FaultBudget,
        *,
        cache: Ref[Placed | QuietChanged],
        executor: Ref[object],
        outputs: Ref[Ended | QuietChanged],
        directory: Directory,
        quiet: Quiet,
    ) -> None:
        super().__init__(config, world, faults, quiet)
        self._executor, self._outputs, self._directory = executor, outputs, directory
        self._handover = Handover(self.trail, world.now, cache=cache, executor=executor)
        self._capacity = Capacity(world, cpu_only=config.cpu_only)
        self._floor = Floor(float(config.patience))
        comebacks = Comebacks(float(config.patience))
        self._granting = Granting(self._floor, self._capacity, comebacks, config, box=world.box.id)
        self._credits = Credits(self._floor, config, directory)
        self._solitude = Solitude(self._floor, quiet, world.keep_off, (cache, outputs))
        self._beats = Beats(world.box, self._floor, self._capacity)
        self._draining = False

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Look at the devices first: no credit is given before they are known."""
        self._reminders = Reminders(self.ref.urgent)
        self.start_soon(self._capacity.watch, self.caller, self._reminders.remind, self.quiet, name="probe")
        self.start_soon(self._reminders.turn_regularly, name="turns")
        try:
            yield
        finally:
            for standing in self._floor.jobs.values():
                self._capacity.unlock(standing.taken)

    async def receive(self, message: InventoryMessage) -> None:
        """Handle one message, then look whether anything can go on."""
        match message:
            case Offered():
                await self.blaming(message.claim.key, self._offered(message.claim, ahead=message.ahead))
            case RestChanged():
                self._floor.rest(message.key, message.claimed_at, rests=message.rests)
            case Released():
                self._released(message)
            case CreditReturned():
                self._credits.returned(message, self._clock)
            case StopJob():
                await self.blaming(message.key, self._stop(message))
            case JobAdopted():
                await self.blaming(message.entry.key, self._adopt(message))
            case ProbeReported():
                self._reminders.handled(message)
                self._capacity.report(message)
            case GpusAsked():
                message.reply.answer(self._capacity.gpu_table(self._floor.holders()))
            case StopCredits():
                await self._drain()
            case PulseAsked():
                message.reply.answer(None)
            case _JobFailed():
                reason = await self.failed(message.claim, message.error)
                await self._end(message.claim, EndReason.RUNNER_FAULT, reason)
            case Turn():
                self._reminders.handled(message)
                await self._give_up_the_patient()
                self._beats.send(self._directory, clock=self._clock, now=self.world.now())
            case _:
                assert_never(message)
        await self._go_on()

    @property
    def _clock(self) -> float:
        return asyncio.get_running_loop().time()

    # Jobs arrive

    async def _offered(self, claim: ClaimedJob, *, ahead: bool = False) -> None:
        if self._floor.knows(claim):
            return
        self._credits.used_up(claim, self._clock)
        if stop := self.marked(claim):
            await self._leave(Ended(claim, *stopped_reason(stop)))
        elif self._draining:
            await self._leave(Ended(claim, EndReason.PREEMPTED, "the runner drains", release_after_s=0.0))
        else:
            self._floor.jobs[claim.key] = self._standing(claim, ahead=ahead)

    def _standing(self, claim: ClaimedJob, *, ahead: bool = False, placed: bool = False) -> Standing:
        request, limit_s = self._granting.request(claim), limit_of(claim, self.config)
        return Standing(claim, request, limit_s, since=self._clock, ahead=ahead, placed=placed)

    async def _adopt(self, adopted: JobAdopted) -> None:
        """Restore what the journal says was granted; a job that was only claimed is looked at as if just offered."""
        entry = adopted.entry
        claim = entry.claimed.claim
        if entry.stored is not None:
            return
        if entry.placed is None and entry.exited is None:
            await self._offered(claim)
            return
        standing = self._standing(claim, placed=True)
        standing.rests = entry.staged is not None and entry.exited is None
        if entry.exited is not None:
            standing.place = Place(cpus=0.0)  # its container is gone; only its disk stands
        elif entry.granted is not None:
            self._capacity.lock(entry.granted.grant.here)
            self._floor.hold(standing, entry.granted.grant.here, self._capacity.total(), self._clock)
        if entry.placed is not None or entry.granted is not None:
            self._floor.jobs[claim.key] = standing

    # Jobs go on

    async def _go_on(self) -> None:
        """Grant what fits, stage what may be staged ahead, and let queues fetch while there is room."""
        self._solitude.look()
        if not self._capacity.seen:
            return
        self._credits.look(self._clock)
        while await self._grant_one():
            self._solitude.look()  # and it changed whose turn it is

    async def _grant_one(self) -> bool:
        """Let the queues go on in their turn; True once a job was granted a place."""
        total = self._capacity.total()
        free = self._floor.free(total)
        for queue, waiting, before in self._credits.in_turn(free, total, self._clock):
            for standing in waiting:
                await self.blaming(standing.claim.key, self._consider(standing, before, waiting))
                if not standing.waits:
                    return True
            if not self._draining and not self.quiet.alone:
                self._credits.send(queue, before, free, total, clock=self._clock)
        return False

    async def _consider(self, standing: Standing, before: Due, in_turn: list[Standing]) -> None:
        step = self._granting.next_step(standing, before, clock=self._clock, now=self.world.now())
        match step:
            case Place():
                self._grant(standing, step)
            case Ended():
                await self._leave(step)
            case Waits():
                self._tell_why(standing, step.why, place_of(standing, in_turn))
                if step.stage_ahead:
                    self._place(standing)
            case _:
                assert_never(step)

    def _tell_why(self, standing: Standing, why: str, place: str) -> None:
        """Journal the reason where its kind or place changed; the seconds in it are those of that moment."""
        if standing.is_news(why, place):
            sentence = f"{why}; it is the {place}" if place else why
            self._in_task(standing, "why", partial(self._handover.explain, standing, sentence))

    def _place(self, standing: Standing) -> None:
        standing.placed = True
        self._in_task(standing, "place", partial(self._handover.place, standing))

    def _grant(self, standing: Standing, place: Place) -> None:
        placed_before, standing.placed = standing.placed, True
        self._floor.hold(standing, place, self._capacity.total(), self._clock)
        self._in_task(standing, "grant", partial(self._handover.grant, standing, placed_before=placed_before))

    def _in_task(self, standing: Standing, name: str, work: Callable[[], Awaitable[None]]) -> None:
        claim, task = standing.claim, f"{name} {standing.claim.key} {standing.claim.attempt}"
        self.cancel_task(task)
        self.start_soon(work, name=task, on_error=lambda error: _JobFailed(claim, error))

    # Jobs leave

    def _released(self, message: Released) -> None:
        """Part ``compute`` or ``unused`` gives back GPUs, cores and memory; part ``all`` the rest, whatever it is."""
        standing = self._floor.jobs.get(message.key)
        if message.part == "all":
            self._floor.forget(message.key, message.claimed_at)
        if standing is None or standing.claim.claimed_at != message.claimed_at:
            return
        if message.part != "compute" and standing.compute_held:
            claim, now = standing.claim, self.world.now()
            self._executor.urgent(StopJob(claim.key, claim.attempt, EndReason.CANCELLED, now, "it ended elsewhere"))
        if standing.compute_held:
            self._capacity.unlock(standing.taken)
            self._floor.let_go(standing, self._clock)
        elif standing.waits:
            standing.end_untried()

    async def _stop(self, stop: StopJob) -> None:
        """End a job that nobody else holds yet; else remember it, in case it is still on its way here."""
        standing = self._floor.jobs.get(stop.key)
        if standing is None or standing.claim.attempt != stop.attempt:
            self.mark(stop)
        elif not standing.placed:
            await self._end(standing.claim, *stopped_reason(stop))

    async def _end(self, claim: ClaimedJob, reason: EndReason, message: str) -> None:
        ended, standing = Ended(claim, reason, message), self._floor.jobs.get(claim.key)
        await (self._outputs.tell(ended) if standing is not None and standing.placed else self._leave(ended))

    async def _leave(self, ended: Ended) -> None:
        """Let a job go of which this box holds nothing; outputs says when that is stored."""
        self._floor.leave(ended.claim)
        await self._outputs.tell(ended)

    async def _drain(self) -> None:
        self._draining = True
        for standing in tuple(self._floor.jobs.values()):
            if not standing.placed:
                await self._give_back(standing, 0.0, "the runner drains")

    async def _give_up_the_patient(self) -> None:
        for standing in self._floor.to_give_back(clock=self._clock, now=self.world.now()):
            await self._give_back(standing, float(self.config.patience), "waited long enough on this box")

    async def _give_back(self, standing: Standing, after_s: float, why: str) -> None:
        await self._leave(Ended(standing.claim, EndReason.PREEMPTED, why, release_after_s=after_s))
        if not standing.kept(self.world.now()):
            self._credits.rest(standing.claim.queue, self._clock + after_s)
