"""
The one way out: uploads, the receipt, the verdict. Never talks to a queue itself.

Every job leaves through here, whatever happened and wherever. A job stands here until its verdict stands in the
journal.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import assert_never

import msgspec

from actors.outputs.clearing import Clearing
from actors.outputs.fence import Fence
from actors.outputs.publishing import Publishing
from actors.outputs.uploads import Uploads
from runner.calls import Patience
from runner.config import Config
from runner.directory import Directory
from runner.job import EndReason
from runner.kernel import Ref
from runner.leaving import GIVEN_BACK, STORE_SHARE, Leaving, decision_of, lost_receipt, receipt_of, release_of
from runner.messages import (
    Ended,
    Exited,
    JobAdopted,
    LeaseChecked,
    PulseAsked,
    QuietChanged,
    Released,
    Reported,
    RestChanged,
    Settled,
    Started,
    StopJob,
)
from runner.ports import World
from runner.records import ClaimedJob, ExitRecord, JournalEntry, Outcome, StoreRecord
from runner.stage import FaultBudget, Stage

logger = logging.getLogger(__name__)

PRUNE_EVERY_S = 3600.0


class _JobFailed(msgspec.Struct, frozen=True):
    """Self: a job's own task failed."""

    leaving: Leaving
    error: Exception


OutputsMessage = Started | Exited | Ended | LeaseChecked | StopJob | JobAdopted | PulseAsked | QuietChanged | _JobFailed


class Outputs(Stage[OutputsMessage]):
    """Stores what jobs leave behind, and says what becomes of their messages."""

    name = "outputs"

    def __init__(
        self,
        config: Config,
        world: World,
        faults: FaultBudget,
        *,
        inventory: Ref[Released | RestChanged],
        logs: Ref[Reported],
        directory: Directory,
    ) -> None:
        super().__init__(config, world, faults)
        self._inventory, self._logs, self._directory = inventory, logs, directory
        self._fence = Fence(directory, inventory)
        patience = Patience(try_s=float(config.transfer_timeout), all_s=float(config.output_patience))
        self._uploads = Uploads(world, self.caller, self.trail, patience)
        self._publishing = Publishing(world, self.caller, self.trail, directory)
        self._clearing = Clearing(config, world, self.caller, self.trail, directory)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Delete old workspaces and journal rows in the background."""
        self.start_soon(self.regularly, self._clearing.old, PRUNE_EVERY_S, "pruning", name="prune")
        yield

    async def receive(self, message: OutputsMessage) -> None:
        """Handle one message."""
        match message:
            case Exited():
                self._begin(Leaving(message.claim, message.outcome, message.staged, message.grant))
            case Ended():
                await self.blaming(message.claim.key, self._ended(message))
            case LeaseChecked():
                self._fence.answered(message)
            case JobAdopted():
                await self.blaming(message.entry.key, self._adopt(message.entry))
            case _JobFailed():
                await self._failed(message)
            case PulseAsked():
                message.reply.answer(None)
            case QuietChanged():
                self.quiet.change(message)
            case Started() | StopJob():
                pass
            case _:
                assert_never(message)

    async def _ended(self, message: Ended) -> None:
        entry = await self.trail.entry(message.claim.key)
        outcome = Outcome(message.reason, message.message, ended_at=self.world.now())
        staged = entry.staged.staged if entry and entry.staged else None
        # Staged ahead, say, when the runner was stopped: nothing was tried.
        untried = 0.0 if message.reason is EndReason.PREEMPTED else None
        self._begin(
            Leaving(
                message.claim,
                outcome,
                staged,
                release_after_s=untried if message.release_after_s is None else message.release_after_s,
                refused_here=message.refused_here,
                over_cap=message.over_cap,
            )
        )

    async def _adopt(self, entry: JournalEntry) -> None:
        """Go on with what had ended; tell the others again of what was stored."""
        claim = entry.claimed.claim
        if entry.stored is not None:
            self._inventory.urgent(Released(claim.key, "all", claim.claimed_at))
            self._tell(claim, entry.stored)
        elif entry.exited is not None:
            staged = entry.staged.staged if entry.staged else None
            grant = entry.granted.grant if entry.granted else None
            self._begin(Leaving(claim, entry.exited.outcome, staged, grant))

    def _begin(self, leaving: Leaving) -> None:
        name = f"store {leaving.claim.key} {leaving.claim.attempt}"
        if not self.has_task(name):
            self.start_soon(self._finish, leaving, name=name, on_error=lambda error: _JobFailed(leaving, error))

    async def _failed(self, message: _JobFailed) -> None:
        """Storing itself failed: store the failure instead, without outputs; if that fails too, the budget ends it."""
        claim = message.leaving.claim
        text = await self.failed(claim, message.error)
        leaving = message.leaving.failing(EndReason.RUNNER_FAULT, text)
        self._begin(msgspec.structs.replace(leaving, staged=None))

    # One job leaves

    async def _finish(self, leaving: Leaving) -> None:
        claim = leaving.claim
        if leaving.release_after_s is not None:
            await self._release(leaving)
            return
        await self._journal_end(leaving)
        if leaving.grant is None:  # storing may take as long as a broker is away
            self._inventory.urgent(Released(claim.key, "unused", claim.claimed_at))
        if leaving.outcome.reason is EndReason.LEASE_LOST or not await self._may_store(claim):
            await self._lost(leaving)
            return
        leaving, outputs = await self._uploads.store(await self._in_time(leaving))
        log = await self._publishing.log(leaving)
        if not await self._may_store(claim):
            await self._lost(leaving)
            return
        leaving = await self._covered(leaving)
        receipt, decision = receipt_of(leaving, outputs, log, box=self.world.box.id, now=self.world.now())
        stands = await self._publishing.receipt(leaving, receipt)
        if stands is None:
            await self._lost(leaving)
            return
        if stands != receipt:
            receipt, decision = stands, decision_of(stands, claim)
        await self._stored(leaving, StoreRecord(receipt, decision, self.world.now()))

    async def _covered(self, leaving: Leaving) -> Leaving:
        """Return it with no secret of the box in what others read of its end."""
        return leaving.failing(leaving.outcome.reason, await self.trail.covered(leaving.outcome.message))

    async def _may_store(self, claim: ClaimedJob) -> bool:
        """Wait until the claim was renewed and no other job has the box for itself; False where it is not ours."""
        held = await self._fence.is_held(claim)
        await self.quiet.over(claim.key)
        return held

    async def _in_time(self, leaving: Leaving) -> Leaving:
        """Bound what is stored of a job that is preempted, so that its message is given back before the runner ends."""
        entry = await self.trail.entry(leaving.claim.key)
        if leaving.outcome.reason is not EndReason.PREEMPTED or entry is None or entry.stopping is None:
            return leaving
        all_s = STORE_SHARE * self.config.preempt_grace
        left_s = min(all_s, all_s + entry.stopping.at - self.world.now())
        # One that an earlier life stopped has as long again.
        clock = asyncio.get_running_loop().time()
        return msgspec.structs.replace(leaving, store_by=clock + (left_s if left_s > 0 else all_s))

    async def _stored(self, leaving: Leaving, stored: StoreRecord) -> None:
        """
        Write that all is stored; from here on nothing of the job is needed on this box.

        Its message may come back, at once and to this box: then all of this attempt is gone before it is settled.
        """
        claim, comes_back = leaving.claim, stored.receipt.state != "ended"
        await self.trail.record(claim.key, stored)
        if not comes_back:
            self._tell(claim, stored)
        await self._clearing.workspace(leaving)
        self._inventory.urgent(Released(claim.key, "all", claim.claimed_at))
        if comes_back:
            self._tell(claim, stored)

    async def _journal_end(self, leaving: Leaving) -> None:
        """Journal how it ended, where the executor did not do so already."""
        key = leaving.claim.key
        entry = await self.trail.entry(key)
        if entry is None or entry.exited is None or entry.exited.outcome != leaving.outcome:
            await self.trail.record(key, ExitRecord(leaving.outcome, self.world.now()))

    def _tell(self, claim: ClaimedJob, stored: StoreRecord) -> None:
        """Tell those who wait for its end: all of it may be said again after a restart."""
        receipt = stored.receipt
        entry = self._directory.find(claim.queue)
        if entry is not None:  # else its poller reads the verdict from the journal when it comes
            entry.poller.urgent(Settled(claim.key))
        name = f"clear {claim.key} {claim.attempt}"
        if receipt.state == "ended" and not self.has_task(name):
            self.start_soon(self._clearing.stop_mark, claim, name=name)
        if receipt.end_reason is not None:
            facts = {"job_id": claim.id, "attempt": claim.attempt, "reason": receipt.end_reason}
            logger.info("job stored", extra={"action": receipt.state, **facts})
            last = receipt.state == "ended"
            reason = EndReason(receipt.end_reason)
            after_s = stored.decision.after_s if stored.decision is not None else 0.0
            told = Reported(claim, reason, receipt.exit_code, receipt.message, last, stored.at, after_s)
            self._logs.urgent(told)

    async def _release(self, leaving: Leaving) -> None:
        """Give a message back untried: no receipt, no fault, no attempt; the note counts it."""
        claim, box = leaving.claim, self.world.box
        receipt, decision = release_of(await self._covered(leaving), box.id)
        await self.trail.say(claim, f"{GIVEN_BACK}: {receipt.message}")
        await self.trail.tell_state(claim, "waiting", f"{GIVEN_BACK} by {box.hostname or box.id}: {receipt.message}")
        await self._stored(leaving, StoreRecord(receipt, decision, self.world.now()))

    async def _lost(self, leaving: Leaving) -> None:
        """Another box has the job: nothing of ours may stand where its results will."""
        claim = leaving.claim
        receipt = lost_receipt(claim, self.world.box.id)
        await self.trail.say(claim, "the claim was lost: nothing is stored here, the job goes on elsewhere")
        await self._stored(leaving, StoreRecord(receipt, None, self.world.now()))
