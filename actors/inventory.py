"""
GPUs, cores, memory and disk: every grant and release, fair share, and the credits by which queues are read.

Never touches a queue or a container. A job stands here from its offer until the last of its grant is given back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import assert_never

import msgspec

from runner.config import Config
from runner.directory import Directory
from runner.errors import RunnerError
from runner.job import EndReason
from runner.kernel import Ref
from runner.messages import (
    CreditGiven,
    CreditReturned,
    Ended,
    GpusAsked,
    Granted,
    JobAdopted,
    Offered,
    Placed,
    ProbeReported,
    Released,
    StopCredits,
    StopJob,
)
from runner.placement import Request, Room, choose, dominant_share, request_of, shortage
from runner.ports import World
from runner.receipt import GpuTable
from runner.records import ClaimedJob, Grant, GrantedGpu, GrantRecord, Place, PlaceRecord, WaitRecord
from runner.share import FairShare
from runner.stage import FaultBudget, Stage, limit_of, stopped_reason
from runner.standing import KEPT_AFTER_RELEASES, Floor, Standing, same_kind

logger = logging.getLogger(__name__)

PROBE_EVERY_S = 10.0
TURN_S = 1.0
SHALLOW_S = 1.0
BOXES_AGREE = 3
ROUNDING = 1e-9


class _Turn(msgspec.Struct, frozen=True):
    """Self: look at the waiting jobs again."""


class _JobFailed(msgspec.Struct, frozen=True):
    """Self: a job's own task failed."""

    claim: ClaimedJob
    error: Exception


InventoryMessage = (
    Offered
    | Released
    | CreditReturned
    | StopJob
    | JobAdopted
    | GpusAsked
    | ProbeReported
    | StopCredits
    | _Turn
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
        cache: Ref[Placed],
        executor: Ref[object],
        outputs: Ref[Ended],
        directory: Directory,
    ) -> None:
        super().__init__(config, world, faults)
        self._cache, self._executor, self._outputs, self._directory = cache, executor, outputs, directory
        self._table: GpuTable | None = None
        self._gpus_known = False
        self._floor = Floor(float(config.patience))
        self._share = FairShare()
        self._draining = False
        # What comes by the clock may stand once of each kind, however long this actor waits for something.
        self._stands: set[type[ProbeReported | _Turn]] = set()

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Look at the devices first: no credit is given before they are known."""
        self.start_soon(self._probe_loop, name="probe")
        self.start_soon(self._turn_loop, name="turns")
        try:
            yield
        finally:
            for standing in self._floor.jobs.values():
                self._unlock(standing)

    async def receive(self, message: InventoryMessage) -> None:
        """Handle one message, then look whether anything can go on."""
        match message:
            case Offered():
                await self.blaming(message.claim.key, self._offered(message.claim, ahead=message.ahead))
            case Released():
                self._released(message)
            case CreditReturned():
                self._credit_returned(message)
            case StopJob():
                await self.blaming(message.key, self._stop(message))
            case JobAdopted():
                await self.blaming(message.entry.key, self._adopt(message))
            case ProbeReported():
                self._stands.discard(ProbeReported)
                self._table, self._gpus_known = message.table, message.known
            case GpusAsked():
                message.reply.answer(self._gpu_table())
            case StopCredits():
                await self._drain()
            case _JobFailed():
                reason = await self.failed(message.claim, message.error)
                await self._end(message.claim, EndReason.RUNNER_FAULT, reason)
            case _Turn():
                self._stands.discard(_Turn)
                await self._give_up_the_patient()
            case _:
                assert_never(message)
        await self._go_on()

    @property
    def _clock(self) -> float:
        return asyncio.get_running_loop().time()

    # What there is

    def _total(self) -> Room:
        box = self.world.box
        return Room(
            self._gpus(only_healthy=True), dict.fromkeys(box.cores, 0.0), float(len(box.cores)), box.memory, box.disk
        )

    def _at_best(self) -> Room:
        """What the box can ever give: also the GPUs that are ill now, and may recover."""
        return msgspec.structs.replace(self._total(), gpus=self._gpus(only_healthy=False))

    def _gpus(self, *, only_healthy: bool) -> tuple[GrantedGpu, ...]:
        if self._table is None or self.config.cpu_only:
            return ()
        simulated = self.world.probe.simulated
        shown = [gpu for gpu in self._table.gpus if gpu.health == "healthy" or not only_healthy]
        return tuple(GrantedGpu(gpu.index, gpu.uuid, simulated) for gpu in shown)

    def _gpu_table(self) -> GpuTable:
        if self._table is None:
            return GpuTable(driver=None)
        running = self._floor.running()
        holders = {gpu.uuid: job.claim.id for job in running if job.place for gpu in job.place.gpus}
        rows = tuple(msgspec.structs.replace(row, job=holders.get(row.uuid)) for row in self._table.gpus)
        return GpuTable(self._table.driver, rows)

    async def _probe_loop(self) -> None:
        while True:
            try:
                table = await self.caller.once(self.world.probe.table, "GPU probe")
                self._remind(ProbeReported(table))
            except RunnerError as error:
                logger.warning("the GPUs cannot be read", extra={"action": "probe", "reason": str(error)})
                if self._table is None:
                    self._remind(ProbeReported(GpuTable(driver=None), known=False))
            await asyncio.sleep(PROBE_EVERY_S)

    async def _turn_loop(self) -> None:
        while True:
            await asyncio.sleep(TURN_S)
            self._remind(_Turn())

    def _remind(self, message: ProbeReported | _Turn) -> None:
        if type(message) not in self._stands:
            self._stands.add(type(message))
            self.ref.urgent(message)

    # Jobs arrive

    async def _offered(self, claim: ClaimedJob, *, ahead: bool = False) -> None:
        account = self._share.accounts.get(claim.queue)
        if account is not None:
            account.credit = account.idle = False
        stop = self.marked(claim)
        if stop is not None:
            await self._outputs.tell(Ended(claim, *stopped_reason(stop)))
            return
        if self._draining:
            await self._outputs.tell(Ended(claim, EndReason.PREEMPTED, "the runner drains", release_after_s=0.0))
            return
        limit_s = limit_of(claim, self.config)
        standing = Standing(claim, self._request(claim), limit_s, since=self._clock, ahead=ahead)
        self._floor.jobs[claim.key] = standing

    def _request(self, claim: ClaimedJob) -> Request:
        return request_of(claim.job, memory=int(self.config.job_memory), disk=int(self.config.job_disk))

    async def _refuse(self, claim: ClaimedJob, never: str) -> None:
        """A job that this box can never run: rejected where nobody else could, else left to the next box."""
        message = f"this box can never run it: {never}"
        refused_by = {*claim.note.refused_by, self.world.box.id}
        # Released three times and back here each time: no other box took it, so this may well be the only one.
        alone = claim.rights.own or claim.rights.sole_reader or claim.note.releases >= KEPT_AFTER_RELEASES
        if alone or len(refused_by) >= BOXES_AGREE:
            await self._outputs.tell(Ended(claim, EndReason.REJECTED, message, refused_here=True))
            return
        patience = float(self.config.patience)
        await self._outputs.tell(Ended(claim, EndReason.REJECTED, message, release_after_s=patience, refused_here=True))

    async def _adopt(self, adopted: JobAdopted) -> None:
        """Restore what the journal says was granted; a job that was only claimed is looked at as if just offered."""
        entry = adopted.entry
        claim = entry.claimed.claim
        if entry.stored is not None:
            return
        if entry.placed is None and entry.exited is None:
            await self._offered(claim)
            return
        limit_s = limit_of(claim, self.config)
        standing = Standing(claim, self._request(claim), limit_s, since=self._clock, placed=True)
        if entry.exited is not None:
            standing.place = Place(cpus=0.0)  # its container is gone; only its disk stands
        elif entry.granted is not None:
            self._lock(entry.granted.grant.here)
            self._hold(standing, entry.granted.grant.here)
        if entry.placed is not None or entry.granted is not None:
            self._floor.jobs[claim.key] = standing

    # Jobs go on

    async def _go_on(self) -> None:
        """Grant what fits, stage what may be staged ahead, and let queues fetch while there is room."""
        if self._table is None:
            return
        for standing in self._in_turn():
            await self.blaming(standing.claim.key, self._consider(standing))
        self._give_credits()

    def _in_turn(self) -> list[Standing]:
        """Waiting jobs: those of the least charged queue first, then by arrival."""
        waiting = list(self._floor.waiting())
        if len(waiting) > 1:
            rank = {queue: place for place, queue in enumerate(self._share.order(self._clock))}
            waiting.sort(key=lambda standing: (rank.get(standing.claim.queue, len(rank)), standing.since))
        return waiting

    async def _consider(self, standing: Standing) -> None:
        total = self._total()
        if standing.request.gpus > len(total.gpus) and not self._gpus_known:
            self._tell_why(standing, "the GPUs of this box cannot be read now")
            return
        never = shortage(standing.request, self._at_best(), have="here")
        if never and not standing.placed:
            del self._floor.jobs[standing.claim.key]
            await self._refuse(standing.claim, never)
            return
        if capped := self._capped(standing.claim):
            self._tell_why(standing, capped)
            return
        room = self._floor.room_for(standing, total, clock=self._clock, now=self.world.now())
        place = choose(standing.still_needs, room)
        if place is not None and self._lock(place):
            self._grant(standing, msgspec.structs.replace(place, disk=standing.request.disk))
            return
        self._tell_why(standing, self._floor.reason(standing, room, self._clock))
        if not standing.placed and self._may_stage_ahead(standing, room):
            self._place(standing)

    def _capped(self, claim: ClaimedJob) -> str:
        """Say which count keeps a job from starting whatever is free, "" for none."""
        most, of_user = self.config.max_jobs, claim.rights.user_max_running
        if most and len(self._floor.running()) >= most:
            return f"waits for one of {most} running jobs (max_jobs)"
        if of_user is not None and self._floor.of_user(claim) >= of_user:
            return f"its user has {of_user} jobs running, as many as the queue allows (user_max_running)"
        return ""

    def _tell_why(self, standing: Standing, sentence: str) -> None:
        """Journal the reason where its kind changed; the seconds in it are those of that moment."""
        kind = same_kind(sentence)
        if kind != standing.told:
            standing.told = kind
            self._in_task(standing, self._write_why, sentence, name="why")

    async def _write_why(self, standing: Standing, sentence: str) -> None:
        if standing.waits:
            await self.record(standing.claim.key, WaitRecord(sentence, self.world.now()))

    def _may_stage_ahead(self, standing: Standing, room: Room) -> bool:
        """A job that stays until it starts may be staged meanwhile; one that will be given back is not worth it."""
        if not standing.ahead and not standing.kept(self.world.now()):
            return False
        ahead = sum(1 for job in self._floor.waiting() if job.placed)
        return ahead < self.config.ahead and standing.request.disk <= room.disk

    def _place(self, standing: Standing) -> None:
        standing.placed = True
        self._in_task(standing, self._send_to_cache, name="place")

    async def _send_to_cache(self, standing: Standing) -> None:
        claim, disk = standing.claim, standing.request.disk
        await self.record(claim.key, PlaceRecord(disk, self.world.now()))
        await self._cache.tell(Placed(claim, disk))

    def _grant(self, standing: Standing, place: Place) -> None:
        staged_before = standing.placed
        standing.placed = True
        self._hold(standing, place)
        self._in_task(standing, self._send_to_executor, staged_before, name="grant")

    def _hold(self, standing: Standing, place: Place) -> None:
        standing.place, standing.compute_held = place, True
        standing.ends_by = self._clock + standing.limit_s
        self._share.take(standing.claim.queue, dominant_share(place, self._total()), self._clock)

    async def _send_to_executor(self, standing: Standing, staged_before: bool) -> None:  # noqa: FBT001 - passed on by name
        claim, place = standing.claim, standing.place
        if place is None:
            return
        grant = Grant((place,))
        await self.record(claim.key, GrantRecord(grant, self.world.now()))
        self._executor.urgent(Granted(claim, grant))
        if not staged_before:
            await self._send_to_cache(standing)

    def _in_task(self, standing: Standing, work: Callable[..., object], *args: object, name: str) -> None:
        claim = standing.claim
        task = f"{name} {claim.key} {claim.attempt}"
        self.cancel_task(task)
        self.start_soon(work, standing, *args, name=task, on_error=lambda error: _JobFailed(claim, error))  # type: ignore[arg-type]

    def _lock(self, place: Place) -> bool:
        """Take the machine-wide lock of every GPU of a place, or of none."""
        taken: list[str] = []
        for gpu in place.gpus:
            if not self._lock_one(gpu.uuid):
                for uuid in taken:
                    self.world.probe.unlock(uuid)
                return False
            taken.append(gpu.uuid)
        return True

    def _lock_one(self, uuid: str) -> bool:
        try:
            return self.world.probe.lock(uuid)
        except RunnerError as error:
            logger.warning("a GPU cannot be locked", extra={"action": "lock", "gpu": uuid, "reason": str(error)})
            return False

    def _unlock(self, standing: Standing) -> None:
        for gpu in standing.place.gpus if standing.place and standing.compute_held else ():
            self.world.probe.unlock(gpu.uuid)

    # Jobs leave

    def _released(self, message: Released) -> None:
        """Part ``compute`` gives back GPUs, cores and memory; part ``all`` the rest, whatever it is."""
        standing = self._floor.jobs.get(message.key)
        if standing is None:
            return
        if message.part == "all" and standing.compute_held:
            claim, now = standing.claim, self.world.now()
            self._executor.urgent(StopJob(claim.key, claim.attempt, EndReason.CANCELLED, now, "it ended elsewhere"))
        self._free_compute(standing)
        if message.part == "all":
            del self._floor.jobs[message.key]

    def _free_compute(self, standing: Standing) -> None:
        if standing.compute_held and standing.place is not None:
            self._unlock(standing)
            standing.compute_held = False
            share = dominant_share(standing.place, self._total())
            self._share.give_back(standing.claim.queue, share, self._clock)

    async def _stop(self, stop: StopJob) -> None:
        """End a job that nobody else holds yet; else remember it, in case it is still on its way here."""
        standing = self._floor.jobs.get(stop.key)
        if standing is None or standing.claim.attempt != stop.attempt:
            self.mark(stop)
        elif not standing.placed:
            await self._end(standing.claim, *stopped_reason(stop))

    async def _end(self, claim: ClaimedJob, reason: EndReason, message: str) -> None:
        await self._outputs.tell(Ended(claim, reason, message))
        standing = self._floor.jobs.get(claim.key)
        if standing is not None and not standing.placed:
            del self._floor.jobs[claim.key]

    async def _drain(self) -> None:
        self._draining = True
        for standing in tuple(self._floor.jobs.values()):
            if not standing.placed:
                await self._give_back(standing, 0.0, "the runner drains")

    async def _give_up_the_patient(self) -> None:
        for standing in self._floor.to_give_back(clock=self._clock, now=self.world.now()):
            await self._give_back(standing, float(self.config.patience), "waited long enough on this box")

    async def _give_back(self, standing: Standing, after_s: float, why: str) -> None:
        await self._outputs.tell(Ended(standing.claim, EndReason.PREEMPTED, why, release_after_s=after_s))
        self._floor.jobs.pop(standing.claim.key, None)
        account = self._share.accounts.get(standing.claim.queue)
        if account is not None and not standing.kept(self.world.now()):
            account.rests_until = self._clock + after_s

    # Credits

    def _credit_returned(self, message: CreditReturned) -> None:
        if message.gone:
            self._share.leave(message.queue)
            return
        account = self._share.join(message.queue, message.weight, self._clock)
        account.credit, account.idle = False, True
        account.rests_until = self._clock + message.retry_after_s
        account.shallow_until = self._clock + (SHALLOW_S if message.shallow else 0.0)

    def _give_credits(self) -> None:
        if self._draining:
            return
        for queue in self._share.order(self._clock):
            account, entry = self._share.accounts[queue], self._directory.find(queue)
            if account.credit or entry is None or account.rests_until > self._clock:
                continue
            ahead = self._credit_kind(queue)
            if ahead is False or (ahead and account.shallow_until <= self._clock):
                account.credit = True
                entry.poller.urgent(CreditGiven(ahead=ahead))

    def _credit_kind(self, queue: str) -> bool | None:
        """
        None: no credit now; False: there is room; True: only for a job to stage ahead.

        Credits that busy queues hold count as jobs to come, so that the next room goes to the queue whose turn it is.
        """
        waiting = self._floor.waiting()
        of_queue = sum(1 for job in waiting if job.claim.queue == queue)
        coming = sum(1 for account in self._share.accounts.values() if account.credit and not account.idle)
        most = self.config.max_jobs or len(self._floor.jobs) + coming + 1
        under_most = len(self._floor.running()) + len(waiting) + coming < most
        if (
            self._floor.free(self._total()).cpus - coming > ROUNDING
            and under_most
            and of_queue < self.config.max_waiting
        ):
            return False
        return True if not waiting and not coming and self.config.ahead else None
