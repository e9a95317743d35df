"""
A delivery becomes a claim of this box: journaled under its token, unless the box knows it already or must not have it.

Tells no actor anything; its poller sends on what it returns.
"""

from __future__ import annotations

from collections.abc import Callable

from actors.poller.intake import Intake, ended_as, is_expired, is_known, is_lost
from actors.poller.leases import Held
from actors.poller.lookout import Lookout
from actors.poller.open_queue import OpenQueue
from actors.poller.settling import Settling
from runner.job import EndReason, Key
from runner.leaving import WITHDRAWN, decision_of
from runner.messages import Ended, Offered
from runner.ports import Delivery
from runner.records import ClaimedJob, ClaimRecord, JournalEntry, StoreRecord
from runner.units import format_duration

BUSY_S = 5.0
"""A submission of an id that runs already waits so long in the queue before it is looked at again."""


class Claiming:
    """
    Takes the deliveries of one queue.

    ``stopping`` says that new ones are no longer wanted. ``settle`` is called with a job whose verdict stands.
    """

    def __init__(
        self,
        opened: OpenQueue,
        settling: Settling,
        lookout: Lookout,
        *,
        stopping: Callable[[], bool],
        settle: Callable[[Key], None],
    ) -> None:
        """Keep whom to tell."""
        self._opened, self._settling, self._lookout = opened, settling, lookout
        self._stopping, self._settle_soon = stopping, settle

    async def take(self, delivery: Delivery, intake: Intake, *, ahead: bool) -> Offered | Ended | None:
        """Journal a delivery; return what becomes of it, None where it goes nowhere from here."""
        claim = intake.claim(delivery, self._opened.now())
        async with self._settling.alone_with(claim.key):
            entry = await self._opened.trail.entry(claim.key)
            if await self._knows(entry, claim, delivery) or await self._puts_off(entry, claim, delivery):
                return None
            claim = await self._judged(claim)
            if not await self._claim(delivery, claim):
                return None
        await self._opened.trail.tell_state(claim, "waiting", f"claimed from {claim.queue_name}")
        return Ended(claim, claim.ends_as, claim.problem) if claim.problem else Offered(claim, ahead)

    async def take_to_end(self, delivery: Delivery, intake: Intake) -> Ended | None:
        """Journal a delivery that was withdrawn, also one that is not wanted now; return its end."""
        claim = ended_as(EndReason.CANCELLED, WITHDRAWN, intake.claim(delivery, self._opened.now()))
        async with self._settling.alone_with(claim.key):
            entry = await self._opened.trail.entry(claim.key)
            if await self._knows(entry, claim, delivery) or not await self._claim(delivery, claim):
                return None
        return Ended(claim, claim.ends_as, claim.problem)

    async def _knows(self, entry: JournalEntry | None, claim: ClaimedJob, delivery: Delivery) -> bool:
        if entry is None or not is_known(entry, claim, delivery.token):
            return False
        await self._retake(entry, delivery)
        return True

    async def _puts_off(self, entry: JournalEntry | None, claim: ClaimedJob, delivery: Delivery) -> bool:
        """Give back what is not wanted now."""
        if self._stopping():
            await self._settling.put_off(delivery, 0.0, "the runner stops")
            return True
        if self._earlier_one_runs(entry, claim):
            await self._settling.put_off(delivery, BUSY_S, "an earlier one of its id runs")
            return True
        return False

    async def _claim(self, delivery: Delivery, claim: ClaimedJob) -> bool:
        """Journal a claim; False where it is lost already, or ended elsewhere."""
        opened = self._opened
        age_s = await opened.leases.age_s(delivery.token, opened.now() - claim.claimed_at)
        if age_s is None:
            return False
        opened.leases.hold(claim.key, Held(delivery.token, claim.id, claim.attempt), age_s=age_s)
        await opened.trail.record(claim.key, ClaimRecord(claim, delivery.token, delivery.body, opened.now()))
        return not await self._ended_elsewhere(claim)

    async def _retake(self, entry: JournalEntry, delivery: Delivery) -> None:
        """One message delivered twice: a running job's token changes, a stored one is settled again."""
        claim, opened = entry.claimed.claim, self._opened
        held = Held(delivery.token, claim.id, claim.attempt)
        if entry.settled is not None and entry.stored is not None and entry.stored.decision is not None:
            await self._settling.carry_out(held, entry.stored.decision)
            return
        if not opened.leases.take_back(entry.key, held):
            await self._settling.put_off(delivery, BUSY_S, "an attempt that had lost its claim is being ended")
            return
        await opened.trail.record(entry.key, ClaimRecord(claim, delivery.token, delivery.body, opened.now()))
        if entry.stored is not None:
            self._settle_soon(entry.key)

    def _earlier_one_runs(self, entry: JournalEntry | None, claim: ClaimedJob) -> bool:
        """
        Tell whether another submission of this id, or an earlier attempt of this one, is not done here.

        An earlier attempt that still runs while a later one is delivered has lost its claim long ago. One that is
        stored is settled, and let go of, once nothing of it is left on this box.
        """
        leases = self._opened.leases
        if entry is None or entry.settled is not None or (is_lost(entry) and entry.key not in leases.held):
            return leases.other_with_id(claim.id, claim.key)
        if entry.stored is None:
            self._lookout.stop(entry.key, entry.claimed.claim.attempt, EndReason.LEASE_LOST)
        return True

    async def _ended_elsewhere(self, claim: ClaimedJob) -> bool:
        """Settle a job whose receipt of this attempt stands: whoever wrote it died before it settled."""
        stored = await self._opened.standing_receipt(claim)
        if stored is None:
            return False
        record = StoreRecord(stored, decision_of(stored, claim), self._opened.now())
        await self._opened.trail.record(claim.key, record)
        self._settle_soon(claim.key)
        return True

    async def _judged(self, claim: ClaimedJob) -> ClaimedJob:
        """Say in a claim whether it is not to run, before it is journaled: the next life must not run it either."""
        if claim.problem:
            return claim
        if is_expired(claim, claim.claimed_at):
            text = f"older than its limit of {format_duration(claim.job.expires or 0.0)} when it was claimed"
            return ended_as(EndReason.EXPIRED, text, claim)
        if claim.id in await self._opened.stop_marks(within_s=self._opened.queue.lease_s / 6):
            return ended_as(EndReason.CANCELLED, "cancelled while it waited in the queue", claim)
        return claim
