"""
The floor of the box: all jobs that stand on it, who may go next, what the others wait for. Pure; times are handed in.

``clock`` is the loop's clock in seconds, ``now`` wall time in epoch seconds, ``total`` all that the box may give out.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from functools import partial

import msgspec

from actors.inventory.share import FairShare
from actors.inventory.standing import WAITS_AT_MOST, Standing
from runner.job import Key
from runner.placement import Room, dominant_share, remaining, request_share, shortage, without_idlest
from runner.records import ClaimedJob, Place
from runner.units import format_duration


class Due(msgspec.Struct, frozen=True):
    """The jobs of queues whose turn comes first: how many wait here, and how many are being fetched."""

    waiting: int = 0
    coming: int = 0


class Floor:
    """All jobs that stand on the box."""

    def __init__(self, patience_s: float) -> None:
        """Begin empty; ``patience_s`` is how long a job waits before it is given back, or reserves."""
        self.jobs: dict[Key, Standing] = {}
        # When those were claimed that left, and whose end is being stored.
        self._leaving: dict[Key, float] = {}
        self.share = FairShare()
        self._patience_s = patience_s

    def knows(self, claim: ClaimedJob) -> bool:
        """Tell whether this very claim stands here, or is leaving: a poller that crashed tells of it again."""
        standing = self.jobs.get(claim.key)
        known = self._leaving.get(claim.key) if standing is None else standing.claim.claimed_at
        return known == claim.claimed_at

    def rest(self, key: Key, claimed_at: float, *, rests: bool) -> None:
        """Account for a job that does nothing now, or goes on, unless it was claimed again since."""
        if key in self.jobs and self.jobs[key].claim.claimed_at == claimed_at:
            self.jobs[key].rests = rests

    def leave(self, claim: ClaimedJob) -> None:
        """Let a job go that has nothing of the box."""
        self.jobs.pop(claim.key, None)
        self._leaving[claim.key] = claim.claimed_at

    def forget(self, key: Key, claimed_at: float) -> None:
        """Forget a job whose end is stored, unless it was claimed again since."""
        if key in self.jobs and self.jobs[key].claim.claimed_at == claimed_at:
            del self.jobs[key]
        if self._leaving.get(key) == claimed_at:
            del self._leaving[key]

    def waiting(self) -> tuple[Standing, ...]:
        """Return the jobs without compute, by arrival."""
        return tuple(standing for standing in self.jobs.values() if standing.waits)

    def running(self) -> tuple[Standing, ...]:
        """Return the jobs that hold compute."""
        return tuple(standing for standing in self.jobs.values() if standing.compute_held)

    def alone(self) -> Standing | None:
        """Return the job that has the box for itself now."""
        return next((job for job in self.running() if job.request.alone), None)

    def busy_beside(self, standing: Standing) -> str:
        """Say what the box is busy with beside a job, ``2 jobs run, 1 job uploads``: one that only waits is nothing."""
        others = [job for job in self.jobs.values() if job is not standing]
        doing = {
            "run": sum(job.compute_held for job in others),
            "stage": sum(job.waits and job.placed and not job.rests for job in others),
            "upload": sum(not job.waits and not job.compute_held and not job.rests for job in others),
        }
        told = (f"1 job {verb}s" if count == 1 else f"{count} jobs {verb}" for verb, count in doing.items() if count)
        return ", ".join(told)

    def free(self, total: Room) -> Room:
        """Return what is not granted."""
        return remaining(total, (standing.taken for standing in self.jobs.values()))

    def holders(self) -> dict[str, str]:
        """Return job ids by the uuid of the GPU that each holds."""
        return {gpu.uuid: job.claim.id for job in self.jobs.values() for gpu in job.taken.gpus}

    def hold(self, standing: Standing, place: Place, total: Room, clock: float) -> None:
        """Let a job hold a place; its queue is charged for it from now on."""
        standing.place, standing.compute_held = place, True
        standing.ends_by = clock + standing.limit_s
        claim = standing.claim
        share = 1.0 if standing.request.alone else dominant_share(place, total)
        self.share.take(claim.queue, claim.user, claim.key, share, clock)

    def let_go(self, standing: Standing, clock: float) -> None:
        """Take back the compute that a job holds."""
        self.share.give_back(standing.claim.queue, standing.claim.user, standing.claim.key, clock)
        standing.compute_held = standing.rests = False

    def of_queue(self, queue: str) -> list[Standing]:
        """Return the waiting jobs of a queue, by arrival."""
        return [standing for standing in self.waiting() if standing.claim.queue == queue]

    def aside(self, queue: str) -> int:
        """Count the waiting jobs of a queue that nothing but their users' caps keeps here: others pass them."""
        return sum(bool(self.over_cap(standing.claim)) for standing in self.of_queue(queue))

    def waiting_in_turn(self, clock: float) -> dict[str, list[Standing]]:
        """Return the waiting jobs by queue, those of the user who was served least first, then by arrival."""
        found: dict[str, list[Standing]] = {}
        for standing in self.waiting():
            found.setdefault(standing.claim.queue, []).append(standing)
        for queue, waiting in found.items():
            if len(waiting) > 1:
                waiting.sort(key=partial(_turn, self.share.users(queue, clock)))
        return found

    def waiting_users(self, queue: str) -> frozenset[str]:
        """Return the users of whom a queue's jobs wait here."""
        return frozenset(standing.claim.user for standing in self.of_queue(queue))

    def served(self, queue: str, total: Room, clock: float) -> dict[str, float]:
        """
        Return how far each user of a queue is served, once what waits here has begun; who is level is left out.

        Infinite for one who has as many jobs here as the queue allows.
        """
        soon: defaultdict[str, float] = defaultdict(float)
        jobs: Counter[str] = Counter()
        caps: dict[str, int | None] = {}
        for standing in self.jobs.values():
            claim = standing.claim
            if claim.queue != queue or not (standing.waits or standing.compute_held):
                continue
            jobs[claim.job.user] += 1
            caps[claim.job.user] = claim.rights.user_max_running
            if standing.waits:
                soon[claim.user] += request_share(standing.request, total)
        served = self.share.users(queue, clock, soon)
        full = {user: math.inf for user, cap in caps.items() if cap is not None and jobs[user] >= cap}
        return {**served, **full}

    def capped(self, claim: ClaimedJob, max_jobs: int, coming: int) -> str:
        """
        Say which count keeps a job from starting whatever is free, "" for none.

        ``max_jobs`` 0 is no limit; ``coming`` jobs are to run before this one.
        """
        if max_jobs and len(self.running()) + coming >= max_jobs:
            return f"waits for one of {max_jobs} running jobs (max_jobs)"
        return self.over_cap(claim)

    def over_cap(self, claim: ClaimedJob) -> str:
        """Say that its user has as much running as the queue allows, "" where it is less."""
        of_user = claim.rights.user_max_running
        if of_user is not None and self._of_user(claim) >= of_user:
            return f"its user has {of_user} jobs running, as many as the queue allows (user_max_running)"
        return ""

    def _of_user(self, claim: ClaimedJob) -> int:
        return sum(job.claim.queue == claim.queue and job.claim.job.user == claim.job.user for job in self.running())

    def may_stage_ahead(self, standing: Standing, room: Room, *, most: int, now: float) -> bool:
        """
        Tell whether a job may be staged before it is granted.

        One that stays until it starts may, or is to be alone where the last one stores what it left; one that will be
        given back is not worth it. ``most`` at a time are.
        """
        soon = standing.request.alone and not self.running()
        if standing.placed or not (standing.ahead or standing.kept(now) or soon):
            return False
        ahead = sum(1 for job in self.waiting() if job.placed)
        return ahead < most and standing.request.disk <= room.disk

    def reserves_before(self, standing: Standing, total: Room, *, clock: float, now: float) -> Standing | None:
        """
        Return the kept job for which room is reserved that this job may not take.

        One whose time limit ends it before the kept one could begin anyway may take that, too.
        """
        kept = next((job for job in self.waiting() if self._reserves(job, clock=clock, now=now)), None)
        kept = kept or self._next_alone(clock)
        if kept is None or kept is standing or clock + standing.limit_s <= self._begins_by(kept, total, clock):
            return None
        return kept

    def room_beside(self, kept: Standing | None, total: Room) -> Room:
        """Return all that is free, but for what a kept job reserves."""
        room = self.free(total)
        if kept is None:
            return room
        reserved = kept.still_needs
        if reserved.pinned:
            room = without_idlest(room, int(reserved.cpus))
        return msgspec.structs.replace(
            room,
            gpus=room.gpus[min(reserved.gpus, len(room.gpus)) :],
            cpus=room.cpus - reserved.cpus,
            memory=room.memory - reserved.memory,
        )

    def _reserves(self, standing: Standing, *, clock: float, now: float) -> bool:
        """
        Out of patience and kept, or of somebody far behind: what it waits for is no longer given to smaller ones.
        """
        claim = standing.claim
        if self.over_cap(claim):
            return False
        patient = clock - standing.since > self._patience_s and standing.kept(now)
        return patient or self.share.behind(claim.queue, claim.user, clock)

    def _next_alone(self, clock: float) -> Standing | None:
        """
        Return the job whose turn it is, where that is to be alone and the last ones only store what they left, or are
        staged: nobody slips in.
        """
        waiting = self.waiting_in_turn(clock)
        if not waiting or self.running():
            return None
        turns = self.share.turns(clock)
        job = waiting[min(waiting, key=lambda queue: (turns.get(queue, 0.0), queue))][0]
        return job if job.request.alone and self.busy_beside(job) else None

    def _begins_by(self, standing: Standing, total: Room, clock: float) -> float:
        """Return when a waiting job could begin if every running one used its whole time limit."""
        by_end = sorted(self.running(), key=lambda job: job.ends_by)
        if standing.request.alone:
            return by_end[-1].ends_by if by_end else clock
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
        return f"{missing}: {first.claim.id} has {what}{WAITS_AT_MOST}{left} more"

    def to_give_back(self, *, clock: float, now: float) -> tuple[Standing, ...]:
        """
        Return the jobs that waited long enough here.

        Kept ones stay, but only the first of each queue: what waits behind it goes back, so that smaller ones are
        seen; unless the service counts that against the message.
        """
        found: list[Standing] = []
        queues: set[str] = set()
        for standing in self.waiting():
            first = standing.claim.queue not in queues
            queues.add(standing.claim.queue)
            impatient = not standing.placed and clock - standing.since > self._patience_s
            stays = standing.claim.release_costs or (first and standing.kept(now))
            if impatient and not stays:
                found.append(standing)
        return tuple(found)


def _turn(served: Mapping[str, float], standing: Standing) -> tuple[float, float]:
    return served.get(standing.claim.user, 0.0), standing.since


def _gpu_names(place: Place | None) -> str:
    gpus = place.gpus if place else ()
    return "GPU " + ", ".join(str(gpu.index) for gpu in gpus)
