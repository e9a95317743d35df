"""
What a job that waits may do now: be granted a place, be staged ahead of that, go on waiting, or never run here.

Decides only, but for the GPU locks that a grant takes; inventory carries it out.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from actors.inventory.capacity import Capacity
from actors.inventory.comebacks import Comebacks
from actors.inventory.floor import Due, Floor
from actors.inventory.standing import KEPT_AFTER_RELEASES, Standing
from runner.config import Config
from runner.job import EndReason
from runner.messages import Ended
from runner.placement import Request, Room, choose, request_of, shortage
from runner.records import ClaimedJob, Place

BOXES_AGREE = 3
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")


class Waits(msgspec.Struct, frozen=True):
    """It cannot be granted now, and why; it may be staged meanwhile."""

    why: str
    stage_ahead: bool = False


def place_of(standing: Standing, in_turn: list[Standing]) -> str:
    """Say which of its queue's waiting jobs a job is, and whose turn comes first; "" where it is the only one."""
    if len(in_turn) < 2:  # noqa: PLR2004 - it is alone
        return ""
    place = in_turn.index(standing)
    ordinal = ORDINALS[place] if place < len(ORDINALS) else f"number {place + 1}"
    text = f"{ordinal} of its queue's {len(in_turn)} waiting jobs on this box"
    before = in_turn[0].claim.user
    return text if before == standing.claim.user else f"{text}: the turn of {_named(before)} comes first"


def _named(user: str) -> str:
    return f"user {user}" if user else "jobs without a user"


@dataclass(frozen=True)
class Granting:
    """The rules of one box, by its id."""

    floor: Floor
    capacity: Capacity
    comebacks: Comebacks
    config: Config
    box: str

    def request(self, claim: ClaimedJob) -> Request:
        """Return what a job needs of this box."""
        sizes = {"memory": int(self.config.job_memory), "disk": int(self.config.job_disk)}
        return request_of(claim.job, **sizes, most=self.capacity.beside_runner(self.capacity.at_best()))

    def next_step(self, standing: Standing, before: Due, *, clock: float, now: float) -> Place | Waits | Ended:
        """
        Return the place that a job is granted, its GPUs locked; or that it waits; or that it ends here.

        ``before`` are the jobs of the queues whose turn comes first: the place of those that are being fetched is kept.
        ``clock`` is the loop's clock in seconds, ``now`` wall time in epoch seconds.
        """
        total = self.capacity.total()
        if standing.request.gpus > len(total.gpus) and not self.capacity.gpus_known:
            return Waits("the GPUs of this box cannot be read now")
        never = self._withheld(standing) or self._never(standing)
        if never and not standing.placed:
            return self._refuse(standing.claim, never)
        if (over := self.floor.over_cap(standing.claim)) and not standing.placed and not standing.stays:
            after_s = self.comebacks.after_s(standing.claim, clock)
            return Ended(standing.claim, EndReason.PREEMPTED, over, release_after_s=after_s, over_cap=True)
        if (alone := self.floor.alone()) is not None:
            return Waits(f"job {alone.claim.id} runs alone on this box")
        if capped := self.floor.capped(standing.claim, self.config.max_jobs, before.coming):
            is_next = not over and self._may_stage(standing, self.floor.free(total), now)
            return Waits(capped, is_next)
        kept = self.floor.reserves_before(standing, total, clock=clock, now=now)
        room = self.floor.room_beside(kept, total)
        room = self.capacity.beside_runner(room) if standing.request.alone else room
        if before.coming and standing.request.cpus > room.cpus - before.coming:
            return Waits("the turn of another queue comes first")
        why = self._in_the_way(standing, kept)
        place = None if why else choose(standing.still_needs, room)
        if place is not None and self.capacity.lock(place):
            return msgspec.structs.replace(place, disk=standing.request.disk)
        return Waits(why or self.floor.reason(standing, room, clock), self._may_stage(standing, room, now))

    def _may_stage(self, standing: Standing, room: Room, now: float) -> bool:
        return self.floor.may_stage_ahead(standing, room, most=self.config.ahead, now=now)

    def _never(self, standing: Standing) -> str:
        """Say what this box can never give a job."""
        request, at_best = standing.request, self.capacity.at_best()
        if never := shortage(request, at_best, have="here"):
            return never
        never = shortage(request, self.capacity.beside_runner(at_best), have="here") if request.alone else ""
        return f"{never} while the runner keeps one for itself" if never else ""

    def _in_the_way(self, standing: Standing, kept: Standing | None) -> str:
        """Say what other jobs do that keeps one from starting whatever is free, where one of them is to be alone."""
        if kept is not None and kept.request.alone:
            return f"job {kept.claim.id} waits to run alone on this box"
        busy = self.floor.busy_beside(standing) if standing.request.alone else ""
        return f"waits for the box to be empty: {busy}" if busy else ""

    def _withheld(self, standing: Standing) -> str:
        in_container = standing.claim.runtime == "container"
        return self.capacity.withheld if in_container and standing.request.gpus else ""

    def _refuse(self, claim: ClaimedJob, never: str) -> Ended:
        """End a job that this box can never run: rejected where nobody else could, else left to the next box."""
        message = f"this box can never run it: {never}"
        refused_by = {*claim.note.refused_by, self.box}
        # Released three times and back here each time: no other box took it, so this may well be the only one.
        alone = claim.rights.own or claim.rights.sole_reader or claim.note.releases >= KEPT_AFTER_RELEASES
        release_after_s = None if alone or len(refused_by) >= BOXES_AGREE else float(self.config.patience)
        return Ended(claim, EndReason.REJECTED, message, release_after_s=release_after_s, refused_here=True)
