"""
GPUs, cores, memory and disk: every grant and release, fair share, and the credits by which queues are read.

Never touches a queue or a container. A job stands here from its offer until the last of its grant is given back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import assert_never

import msgspec

from runner.config import Config
from runner.directory import Directory
from runner.errors import RunnerError
from runner.job import EndReason, Key
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
from runner.placement import Request, Room, choose, dominant_share, remaining, request_of, shortage
from runner.ports import World
from runner.receipt import GpuTable
from runner.records import ClaimedJob, Grant, GrantedGpu, GrantRecord, Place, PlaceRecord, WaitRecord
from runner.share import FairShare
from runner.stage import FaultBudget, Stage, stopped_reason
from runner.units import format_duration

logger = logging.getLogger(__name__)

PROBE_EVERY_S = 10.0
TURN_S = 1.0
KEPT_AFTER_RELEASES = 3
KEPT_AFTER_S = 600.0
BOXES_AGREE = 3


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


@dataclass
class Standing:
    """One job as it stands here."""

    claim: ClaimedJob
    request: Request
    # Loop seconds; patience counts from here.
    since: float
    # Its disk is granted, and the cache has it.
    placed: bool = False
    # GPUs, cores and memory are granted.
    place: Place | None = None
    compute_held: bool = False
    # Loop seconds by which its time limit ends it, for those who wait behind it.
    ends_by: float = 0.0
    # What was last told of why it waits.
    told: str = ""


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
        self._jobs: dict[Key, Standing] = {}
        self._share = FairShare()
        self._draining = False

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Look at the devices first: no credit is given before they are known."""
        self.start_soon(self._probe_loop, name="probe")
        self.start_soon(self._turn_loop, name="turns")
        try:
            yield
        finally:
            for standing in self._jobs.values():
                self._unlock(standing)

    async def receive(self, message: InventoryMessage) -> None:
        """Handle one message, then look whether anything can go on."""
        match message:
            case Offered():
                await self.blaming(message.claim.key, self._offered(message.claim))
            case Released():
                self._released(message)
            case CreditReturned():
                self._credit_returned(message)
            case StopJob():
                await self.blaming(message.key, self._stop(message))
            case JobAdopted():
                await self.blaming(message.entry.key, self._adopt(message))
            case ProbeReported():
                self._table = message.table
            case GpusAsked():
                message.reply.answer(self._gpu_table())
            case StopCredits():
                await self._drain()
            case _JobFailed():
                reason = await self.failed(message.claim, message.error)
                await self._end(message.claim, EndReason.RUNNER_FAULT, reason)
            case _Turn():
                await self._give_up_the_patient()
            case _:
                assert_never(message)
        self._go_on()

    @property
    def _clock(self) -> float:
        return asyncio.get_running_loop().time()

    # What there is

    def _total(self) -> Room:
        box = self.world.box
        return Room(self._usable_gpus(), dict.fromkeys(box.cores, 0.0), float(len(box.cores)), box.memory, box.disk)

    def _usable_gpus(self) -> tuple[GrantedGpu, ...]:
        if self._table is None or self.config.cpu_only:
            return ()
        simulated = self.world.probe.simulated
        return tuple(GrantedGpu(gpu.index, gpu.uuid, simulated) for gpu in self._table.gpus if gpu.health == "healthy")

    def _free(self) -> Room:
        """What is not granted: the disk of all placed jobs and the compute of all granted ones is taken."""
        return remaining(self._total(), (self._taken(standing) for standing in self._jobs.values()))

    def _taken(self, standing: Standing) -> Place:
        disk = standing.request.disk if standing.placed else 0
        if standing.place is None or not standing.compute_held:
            return Place(cpus=0.0, disk=disk)
        return msgspec.structs.replace(standing.place, disk=disk)

    def _gpu_table(self) -> GpuTable:
        if self._table is None:
            return GpuTable(driver=None)
        holders = {
            gpu.uuid: job.claim.id
            for job in self._jobs.values()
            if job.compute_held and job.place
            for gpu in job.place.gpus
        }
        rows = tuple(msgspec.structs.replace(row, job=holders.get(row.uuid)) for row in self._table.gpus)
        return GpuTable(self._table.driver, rows)

    async def _probe_loop(self) -> None:
        while True:
            try:
                table = await self.caller.once(self.world.probe.table, "GPU probe")
                self.ref.urgent(ProbeReported(table))
            except RunnerError as error:
                logger.warning("the GPUs cannot be read", extra={"action": "probe", "reason": str(error)})
                if self._table is None:
                    self.ref.urgent(ProbeReported(GpuTable(driver=None)))
            await asyncio.sleep(PROBE_EVERY_S)

    async def _turn_loop(self) -> None:
        while True:
            await asyncio.sleep(TURN_S)
            self.ref.urgent(_Turn())

    # Jobs arrive

    async def _offered(self, claim: ClaimedJob) -> None:
        account = self._share.accounts.get(claim.queue)
        if account is not None:
            account.credit = False
        stop = self.marked(claim)
        if stop is not None:
            await self._outputs.tell(Ended(claim, *stopped_reason(stop)))
            return
        request = self._request(claim)
        never = shortage(request, self._total(), have="here")
        if never:
            await self._refuse(claim, never)
        elif self._draining:
            await self._outputs.tell(Ended(claim, EndReason.PREEMPTED, "the runner drains", release_after_s=0.0))
        else:
            self._jobs[claim.key] = Standing(claim, request, since=self._clock)

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
        standing = Standing(claim, self._request(claim), since=self._clock, placed=True)
        if entry.granted is not None and entry.exited is None:
            self._lock(entry.granted.grant.here)
            self._hold(standing, entry.granted.grant.here)
        if entry.placed is not None or entry.granted is not None:
            self._jobs[claim.key] = standing

    # Jobs go on

    def _go_on(self) -> None:
        """Grant what fits, stage what may be staged ahead, and let queues fetch while there is room."""
        if self._table is None:
            return
        for standing in self._in_turn():
            self._consider(standing)
        self._give_credits()

    def _in_turn(self) -> list[Standing]:
        """Waiting jobs: those of the least charged queue first, then by arrival."""
        waiting = [standing for standing in self._jobs.values() if standing.place is None]
        if len(waiting) > 1:
            rank = {queue: place for place, queue in enumerate(self._share.order(self._clock))}
            waiting.sort(key=lambda standing: (rank.get(standing.claim.queue, len(rank)), standing.since))
        return waiting

    def _consider(self, standing: Standing) -> None:
        if self.config.max_jobs and self._running() >= self.config.max_jobs:
            self._tell_why(standing, f"waits for one of {self.config.max_jobs} running jobs (max_jobs)")
            return
        room = self._room_for(standing)
        request = standing.request if not standing.placed else msgspec.structs.replace(standing.request, disk=0)
        place = choose(request, room)
        if place is not None and self._lock(place):
            self._grant(standing, msgspec.structs.replace(place, disk=standing.request.disk))
            return
        self._tell_why(standing, self._reason(standing, request, room))
        if not standing.placed and self._may_stage_ahead(standing, room):
            self._place(standing)

    def _running(self) -> int:
        return sum(1 for standing in self._jobs.values() if standing.compute_held)

    def _room_for(self, standing: Standing) -> Room:
        """What this job may take: all that is free, but for what a kept job before it has reserved."""
        room = self._free()
        kept = next((other for other in self._jobs.values() if other.place is None and self._reserves(other)), None)
        if kept is None or kept is standing or self._ends_before(standing, kept):
            return room
        return self._without(room, kept.request)

    def _reserves(self, standing: Standing) -> bool:
        """A job that ran out of patience and is kept: what it waits for is no longer given to smaller ones."""
        return self._clock - standing.since > self.config.patience and self._kept(standing.claim)

    def _ends_before(self, standing: Standing, kept: Standing) -> bool:
        """Whether a small job's time limit ends it before the kept one could begin anyway."""
        return self._clock + self._limit_s(standing.claim) <= self._begins_by(kept)

    def _without(self, room: Room, reserved: Request) -> Room:
        gpus = room.gpus[min(reserved.gpus, len(room.gpus)) :]
        return msgspec.structs.replace(
            room, gpus=gpus, cpus=room.cpus - reserved.cpus, memory=room.memory - reserved.memory
        )

    def _begins_by(self, waiting: Standing) -> float:
        """Loop seconds at which a waiting job could begin, if every running one used its whole time limit."""
        running = sorted((job for job in self._jobs.values() if job.compute_held), key=lambda job: job.ends_by)
        for index, job in enumerate(running):
            still = (self._taken(other) for other in (*running[index + 1 :], *self._placed_only()))
            if not shortage(waiting.request, remaining(self._total(), still), have="free"):
                return job.ends_by
        return self._clock

    def _placed_only(self) -> tuple[Standing, ...]:
        return tuple(job for job in self._jobs.values() if not job.compute_held)

    def _limit_s(self, claim: ClaimedJob) -> float:
        limit = claim.job.timeout if claim.job.timeout is not None else claim.rights.timeout_s
        return float(self.config.timeout if limit is None else limit)

    def _reason(self, standing: Standing, request: Request, room: Room) -> str:
        missing = shortage(request, room, have="free")
        if not missing:
            return "its GPU is held by another runner of this machine"
        holders = [
            job
            for job in self._jobs.values()
            if job.compute_held and (not request.gpus or (job.place and job.place.gpus))
        ]
        if not holders:
            return missing
        first = min(holders, key=lambda job: job.ends_by)
        what = _gpu_names(first.place) if request.gpus > len(room.gpus) else "its share"
        left = max(0.0, first.ends_by - self._clock)
        return f"{missing}: {first.claim.id} has {what} for at most {format_duration(left)} more"

    def _tell_why(self, standing: Standing, sentence: str) -> None:
        """Journal the reason where its kind changed; the seconds in it are those of that moment."""
        kind = sentence.rpartition(" for at most ")[0] or sentence
        if kind != standing.told:
            standing.told = kind
            self._in_task(standing, self._write_why, sentence, name="why")

    async def _write_why(self, standing: Standing, sentence: str) -> None:
        if standing.place is None:
            await self.record(standing.claim.key, WaitRecord(sentence, self.world.now()))

    def _may_stage_ahead(self, standing: Standing, room: Room) -> bool:
        ahead = sum(1 for job in self._jobs.values() if job.placed and job.place is None)
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
        standing.ends_by = self._clock + self._limit_s(standing.claim)
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
            if not self.world.probe.lock(gpu.uuid):
                for uuid in taken:
                    self.world.probe.unlock(uuid)
                return False
            taken.append(gpu.uuid)
        return True

    def _unlock(self, standing: Standing) -> None:
        for gpu in standing.place.gpus if standing.place and standing.compute_held else ():
            self.world.probe.unlock(gpu.uuid)

    # Jobs leave

    def _released(self, message: Released) -> None:
        """Part ``compute`` gives back GPUs, cores and memory; part ``all`` the rest, whatever it is."""
        standing = self._jobs.get(message.key)
        if standing is None:
            return
        if message.part == "all" and standing.compute_held:
            claim, now = standing.claim, self.world.now()
            self._executor.urgent(StopJob(claim.key, claim.attempt, EndReason.CANCELLED, now, "it ended elsewhere"))
        self._free_compute(standing)
        if message.part == "all":
            del self._jobs[message.key]

    def _free_compute(self, standing: Standing) -> None:
        if standing.compute_held and standing.place is not None:
            self._unlock(standing)
            standing.compute_held = False
            share = dominant_share(standing.place, self._total())
            self._share.give_back(standing.claim.queue, share, self._clock)

    async def _stop(self, stop: StopJob) -> None:
        """End a job that nobody else holds yet; else remember it, in case it is still on its way here."""
        standing = self._jobs.get(stop.key)
        if standing is None or standing.claim.attempt != stop.attempt:
            self.mark(stop)
        elif not standing.placed:
            await self._end(standing.claim, *stopped_reason(stop))

    async def _end(self, claim: ClaimedJob, reason: EndReason, message: str) -> None:
        await self._outputs.tell(Ended(claim, reason, message))
        standing = self._jobs.get(claim.key)
        if standing is not None and not standing.placed:
            del self._jobs[claim.key]

    async def _drain(self) -> None:
        self._draining = True
        for standing in tuple(self._jobs.values()):
            if not standing.placed:
                await self._give_back(standing, 0.0, "the runner drains")

    async def _give_up_the_patient(self) -> None:
        """Give back what waited long enough, but for jobs that are kept; of those the first one reserves."""
        for standing in tuple(self._jobs.values()):
            if standing.placed or self._clock - standing.since <= self.config.patience:
                continue
            if not self._kept(standing.claim) or self._another_is_kept(standing):
                await self._give_back(standing, float(self.config.patience), "waited long enough on this box")

    def _kept(self, claim: ClaimedJob) -> bool:
        return (
            claim.rights.own
            or claim.rights.sole_reader
            or claim.note.releases >= KEPT_AFTER_RELEASES
            or self.world.now() - claim.submitted_at > KEPT_AFTER_S
        )

    def _another_is_kept(self, standing: Standing) -> bool:
        """One reservation a queue: what waits behind it goes back, so that smaller jobs behind are seen."""
        return any(
            other.claim.queue == standing.claim.queue and other.since < standing.since
            for other in self._jobs.values()
            if other.place is None and other is not standing
        )

    async def _give_back(self, standing: Standing, after_s: float, why: str) -> None:
        await self._outputs.tell(Ended(standing.claim, EndReason.PREEMPTED, why, release_after_s=after_s))
        self._jobs.pop(standing.claim.key, None)
        account = self._share.accounts.get(standing.claim.queue)
        if account is not None and not self._kept(standing.claim):
            account.rests_until = self._clock + after_s

    # Credits

    def _credit_returned(self, message: CreditReturned) -> None:
        if message.gone:
            self._share.leave(message.queue)
            return
        account = self._share.join(message.queue, message.weight, self._clock)
        account.credit = False
        account.rests_until = self._clock + message.retry_after_s

    def _give_credits(self) -> None:
        if self._draining:
            return
        for queue in self._share.order(self._clock):
            account, entry = self._share.accounts[queue], self._directory.find(queue)
            if account.credit or entry is None or account.rests_until > self._clock:
                continue
            ahead = self._credit_kind(queue)
            if ahead is not None:
                account.credit = True
                entry.poller.urgent(CreditGiven(ahead=ahead))

    def _credit_kind(self, queue: str) -> bool | None:
        """None: no credit now; False: there is room; True: only for a job to stage ahead."""
        waiting = [job for job in self._jobs.values() if job.place is None]
        of_queue = sum(1 for job in waiting if job.claim.queue == queue)
        full = bool(self.config.max_jobs) and self._running() + len(waiting) >= self.config.max_jobs
        if self._free().cpus > 1e-9 and of_queue < self.config.max_waiting and not full:  # noqa: PLR2004 - rounding
            return False
        return True if not waiting and self.config.ahead else None


def _gpu_names(place: Place | None) -> str:
    gpus = place.gpus if place else ()
    return "GPU " + ", ".join(str(gpu.index) for gpu in gpus)
