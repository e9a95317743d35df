"""
One job as it stands on a box: what it holds, what it still needs, whether it stays. Pure; times are handed in.

``clock`` is the loop's clock in seconds, ``now`` wall time in epoch seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from runner.placement import Request
from runner.records import ClaimedJob, Place

KEPT_AFTER_RELEASES = 3
KEPT_AFTER_S = 600.0
WAITS_AT_MOST = " for at most "
"""Stands in a reason before the seconds that are left."""


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
    # It is staged and waits, or what it left waits for its broker: nothing of it can be seen on the box.
    rests: bool = False
    # GPUs, cores and memory are granted.
    place: Place | None = None
    compute_held: bool = False
    # When its time limit ends it, for those who wait behind it.
    ends_by: float = 0.0
    # What was last told of why it waits.
    told: tuple[str, str] = ("", "")

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

    def end_untried(self) -> None:
        """Take none of the box but its disk any more: it ended before it was granted, and its end is being stored."""
        self.place, self.rests = Place(cpus=0.0), False

    @property
    def still_needs(self) -> Request:
        """What it needs beyond what it has."""
        return msgspec.structs.replace(self.request, disk=0) if self.placed else self.request

    def kept(self, now: float) -> bool:
        """Tell whether giving it back would help nobody, or harm: it came back here often enough, too."""
        old = now - self.claim.submitted_at > KEPT_AFTER_S
        return self.stays or self.claim.note.releases >= KEPT_AFTER_RELEASES or old

    @property
    def stays(self) -> bool:
        """Whether its message is never given back: only this box reads its queue, or the service counts it."""
        claim = self.claim
        return claim.rights.own or claim.rights.sole_reader or claim.release_costs

    def is_news(self, why: str, place: str) -> bool:
        """Take in why it waits; tell whether that is another reason than before, whatever the seconds in it."""
        before, self.told = self.told, (why.partition(WAITS_AT_MOST)[0], place)
        return self.told != before
