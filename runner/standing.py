"""
Jobs as they stand on a box: what each holds, who may go next, what the others wait for. Pure; times are handed in.

``clock`` is the loop's clock in seconds, ``now`` wall time in epoch seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from runner.job import Key
from runner.placement import Request, Room, remaining, shortage
from runner.records import ClaimedJob, Place
from runner.units import format_duration

KEPT_AFTER_RELEASES = 3
KEPT_AFTER_S = 600.0


@dataclass
class Standing:
    """One job as it stands here."""

    claim: ClaimedJob
    request: Request
    # Seconds of wall time that one attempt may take.
    limit_s: float
    # Patience counts from here.
    since: float
    # Fetched to be staged while others run.
    ahead: bool = False
    # Its disk is granted, and the cache has it.
    placed: bool = False
    # GPUs, cores and memory are granted.
    place: Place | None = None
    compute_held: bool = False
    # When its time limit ends it, for those who wait behind it.
    ends_by: float = 0.0
    # What was last told of why it waits.
    told: str = ""

    @property
    def waits(self) -> bool:
        """Whether its compute was never granted."""
        return self.place is None

    @property
    def taken(self) -> Place:
        """What it takes of the box now: disk once placed, compute while held."""
        disk = self.request.disk if self.placed else 0
        if self.place is None or not self.compute_held:
            return Place(cpus=0.0, disk=disk)
        return msgspec.structs.replace(self.place, disk=disk)

    @property
    def still_needs(self) -> Request:
        """What it needs beyond what it has."""
        return msgspec.structs.replace(self.request, disk=0) if self.placed else self.request

    def kept(self, now: float) -> bool:
        """Tell whether giving it back would help nobody: only this box reads its queue, or it went round enough."""
        rights, note = self.claim.rights, self.claim.note
        old = now - self.claim.submitted_at > KEPT_AFTER_S
        return rights.own or rights.sole_reader or note.releases >= KEPT_AFTER_RELEASES or old


class Floor:
    """All jobs that stand on the box."""

    def __init__(self, patience_s: float) -> None:
        """Begin empty; ``patience_s`` is how long a job waits before it is given back, or reserves."""
        self.jobs: dict[Key, Standing] = {}
        self.patience_s = patience_s

    def waiting(self) -> tuple[Standing, ...]:
        """Return the jobs without compute, by arrival."""
        return tuple(standing for standing in self.jobs.values() if standing.waits)

    def running(self) -> tuple[Standing, ...]:
        """Return the jobs that hold compute."""
        return tuple(standing for standing in self.jobs.values() if standing.compute_held)

    def free(self, total: Room) -> Room:
        """Return what is not granted."""
        return remaining(total, (standing.taken for standing in self.jobs.values()))

    def of_user(self, claim: ClaimedJob) -> int:
        """Count what the job's user has running of its queue."""
        return sum(job.claim.queue == claim.queue and job.claim.job.user == claim.job.user for job in self.running())

    def room_for(self, standing: Standing, total: Room, *, clock: float, now: float) -> Room:
        """
        Return what this job may take: all that is free, but for what a kept job before it reserves.

        A job whose time limit ends it before the kept one could begin anyway may take that, too.
        """
        room = self.free(total)
        kept = next((job for job in self.waiting() if self._reserves(job, clock=clock, now=now)), None)
        if kept is None or kept is standing or clock + standing.limit_s <= self._begins_by(kept, total, clock):
            return room
        reserved = kept.still_needs
        return msgspec.structs.replace(
            room,
            gpus=room.gpus[min(reserved.gpus, len(room.gpus)) :],
            cpus=room.cpus - reserved.cpus,
            memory=room.memory - reserved.memory,
        )

    def _reserves(self, standing: Standing, *, clock: float, now: float) -> bool:
        """Out of patience and kept: what it waits for is no longer given to smaller ones."""
        return clock - standing.since > self.patience_s and standing.kept(now)

    def _begins_by(self, standing: Standing, total: Room, clock: float) -> float:
        """Return when a waiting job could begin if every running one used its whole time limit."""
        by_end = sorted(self.running(), key=lambda job: job.ends_by)
        others = tuple(job.taken for job in self.jobs.values() if not job.compute_held and job is not standing)
        for index, job in enumerate(by_end):
            still = (*(other.taken for other in by_end[index + 1 :]), *others)
            if not shortage(standing.request, remaining(total, still), have="free"):
                return job.ends_by
        return clock

    def reason(self, standing: Standing, room: Room, clock: float) -> str:
        """Say in one sentence what a job waits for."""
        request = standing.still_needs
        missing = shortage(request, room, have="free")
        if not missing:
            return "its GPU is held by another runner of this machine"
        of_gpus = request.gpus > len(room.gpus)
        holders = [job for job in self.running() if not of_gpus or (job.place is not None and job.place.gpus)]
        if not holders:
            return missing
        first = min(holders, key=lambda job: job.ends_by)
        what = _gpu_names(first.place) if of_gpus else "its share"
        left = format_duration(max(0.0, first.ends_by - clock))
        return f"{missing}: {first.claim.id} has {what} for at most {left} more"

    def to_give_back(self, *, clock: float, now: float) -> tuple[Standing, ...]:
        """
        Return the jobs that waited long enough here.

        Kept ones stay, but only the first of each queue: what waits behind it goes back, so that smaller ones are seen.
        """
        found: list[Standing] = []
        queues: set[str] = set()
        for standing in self.waiting():
            first = standing.claim.queue not in queues
            queues.add(standing.claim.queue)
            impatient = not standing.placed and clock - standing.since > self.patience_s
            if impatient and not (first and standing.kept(now)):
                found.append(standing)
        return tuple(found)


def same_kind(sentence: str) -> str:
    """Return a reason without the seconds in it, to tell whether it changed."""
    return sentence.rpartition(" for at most ")[0] or sentence


def _gpu_names(place: Place | None) -> str:
    gpus = place.gpus if place else ()
    return "GPU " + ", ".join(str(gpu.index) for gpu in gpus)
