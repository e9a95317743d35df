"""
The one way out: uploads, the receipt, the verdict. Never talks to a queue itself.

Every job leaves through here, whatever happened and wherever. A job stands here until its verdict stands in the
journal.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar, assert_never

import msgspec

from runner.calls import Patience
from runner.config import Config
from runner.directory import Directory, QueueEntry
from runner.errors import AlreadyStored, RunnerError
from runner.job import EndReason, Key, Output
from runner.kernel import Ref
from runner.leaving import Leaving, decision_of, log_account, lost_receipt, receipt_of, release_of, url_of
from runner.messages import (
    Ended,
    Exited,
    JobAdopted,
    LeaseCheck,
    LeaseChecked,
    QuietChanged,
    Released,
    Reported,
    Settled,
    Started,
    StopJob,
)
from runner.ports import CollectedFile, Results, SpoolSeal, World
from runner.receipt import OutputAccount, Receipt
from runner.records import (
    ClaimedJob,
    ExitRecord,
    JournalEntry,
    Outcome,
    StagedJob,
    StoreRecord,
    UploadRecord,
)
from runner.stage import FaultBudget, Stage

T = TypeVar("T")
logger = logging.getLogger(__name__)

ASK_AGAIN_S = 30.0
REFUSED_S = 30.0
COURTESY = Patience(try_s=300.0, all_s=600.0)
PRUNE_EVERY_S = 3600.0


class _JobFailed(msgspec.Struct, frozen=True):
    """Self: a job's own task failed."""

    leaving: Leaving
    error: Exception


OutputsMessage = Started | Exited | Ended | LeaseChecked | StopJob | JobAdopted | QuietChanged | _JobFailed


class Outputs(Stage[OutputsMessage]):
    """Stores what jobs leave behind, and says what becomes of their messages."""

    name = "outputs"

    def __init__(
        self,
        config: Config,
        world: World,
        faults: FaultBudget,
        *,
        inventory: Ref[Released],
        logs: Ref[Reported],
        directory: Directory,
    ) -> None:
        super().__init__(config, world, faults)
        self._inventory, self._logs, self._directory = inventory, logs, directory
        # Jobs that wait to hear from their poller whether the claim is still ours.
        self._checks: dict[Key, asyncio.Future[bool]] = {}

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Delete old workspaces and journal rows in the background."""
        self.start_soon(self.regularly, self._prune, PRUNE_EVERY_S, "pruning", name="prune")
        yield

    async def receive(self, message: OutputsMessage) -> None:
        """Handle one message."""
        match message:
            case Exited():
                self._begin(Leaving(message.claim, message.outcome, message.staged, message.grant))
            case Ended():
                await self.blaming(message.claim.key, self._ended(message))
            case LeaseChecked():
                waiting = self._checks.get(message.key)
                if waiting is not None and not waiting.done():
                    waiting.set_result(message.held)
            case JobAdopted():
                await self.blaming(message.entry.key, self._adopt(message.entry))
            case _JobFailed():
                await self._failed(message)
            case Started() | StopJob() | QuietChanged():
                pass
            case _:
                assert_never(message)

    async def _ended(self, message: Ended) -> None:
        entry = await self.trail.entry(message.claim.key)
        outcome = Outcome(message.reason, message.message, ended_at=self.world.now())
        staged = entry.staged.staged if entry and entry.staged else None
        self._begin(
            Leaving(
                message.claim,
                outcome,
                staged,
                release_after_s=message.release_after_s,
                refused_here=message.refused_here,
            )
        )

    async def _adopt(self, entry: JournalEntry) -> None:
        """Go on with what had ended; tell the others again of what was stored."""
        claim = entry.claimed.claim
        if entry.stored is not None:
            await self._leave(claim, entry.stored)
        elif entry.exited is not None:
            staged = entry.staged.staged if entry.staged else None
            grant = entry.granted.grant if entry.granted else None
            self._begin(Leaving(claim, entry.exited.outcome, staged, grant))

    def _begin(self, leaving: Leaving) -> None:
        name = f"store {leaving.claim.key} {leaving.claim.attempt}"
        if name not in self.tasks():
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
        if leaving.outcome.reason is EndReason.LEASE_LOST or not await self._is_held(claim):
            await self._lost(leaving)
            return
        leaving, outputs = await self._store_outputs(leaving)
        seal, url = await self._store_log(leaving)
        if not await self._is_held(claim):
            await self._lost(leaving)
            return
        log = log_account(seal, url)
        receipt, decision = receipt_of(leaving, outputs, log, box=self.world.box.id, now=self.world.now())
        stands = await self._store_receipt(claim, receipt)
        if stands is None:
            await self._lost(leaving)
            return
        if stands != receipt:
            receipt, decision = stands, decision_of(stands, claim)
        await self._stored(leaving, StoreRecord(receipt, decision, self.world.now()))

    async def _stored(self, leaving: Leaving, stored: StoreRecord) -> None:
        """Write that all is stored; from here on nothing of the job is needed on this box."""
        await self.trail.record(leaving.claim.key, stored)
        await self._remove_workspace(leaving)
        await self._leave(leaving.claim, stored)

    async def _journal_end(self, leaving: Leaving) -> None:
        """Journal how it ended, where the executor did not do so already."""
        key = leaving.claim.key
        entry = await self.trail.entry(key)
        if entry is None or entry.exited is None or entry.exited.outcome != leaving.outcome:
            await self.trail.record(key, ExitRecord(leaving.outcome, self.world.now()))

    async def _leave(self, claim: ClaimedJob, stored: StoreRecord) -> None:
        """Tell the three that wait: all of it may be said again after a restart."""
        receipt = stored.receipt
        self._inventory.urgent(Released(claim.key, "all"))
        entry = self._directory.find(claim.queue)
        if entry is not None:  # else its poller reads the verdict from the journal when it comes
            entry.poller.urgent(Settled(claim.key))
        name = f"clear {claim.key} {claim.attempt}"
        if receipt.state == "ended" and name not in self.tasks():
            self.start_soon(self._clear_stop, claim, name=name)
        if receipt.end_reason is not None:
            facts = {
                "action": receipt.state,
                "job_id": claim.id,
                "attempt": claim.attempt,
                "reason": receipt.end_reason,
            }
            logger.info("job stored", extra=facts)
            last = receipt.state == "ended"
            reason = EndReason(receipt.end_reason)
            self._logs.urgent(Reported(claim, reason, receipt.exit_code, receipt.message, last, stored.at))

    async def _release(self, leaving: Leaving) -> None:
        """Give a message back untried: no receipt, no fault, no attempt; the note counts it."""
        claim = leaving.claim
        receipt, decision = release_of(leaving, self.world.box.id)
        await self.trail.say(claim, f"given back to the queue: {receipt.message}")
        await self._stored(leaving, StoreRecord(receipt, decision, self.world.now()))

    async def _lost(self, leaving: Leaving) -> None:
        """Another box has the job: nothing of ours may stand where its results will."""
        claim = leaving.claim
        receipt = lost_receipt(claim, self.world.box.id)
        await self.trail.say(claim, "the claim was lost: nothing is stored here, the job goes on elsewhere")
        await self._stored(leaving, StoreRecord(receipt, None, self.world.now()))

    async def _is_held(self, claim: ClaimedJob) -> bool:
        """Have the claim renewed; while its poller is away, the job waits here, since unfenced results may be wrong."""
        waiting = self._checks[claim.key] = asyncio.get_running_loop().create_future()
        try:
            while True:
                entry = self._directory.find(claim.queue)
                if entry is not None:
                    entry.poller.urgent(LeaseCheck(claim.key))
                done, _ = await asyncio.wait({waiting}, timeout=ASK_AGAIN_S if entry is not None else 1.0)
                if done:
                    return bool(waiting.result())
        finally:
            del self._checks[claim.key]

    def _results(self, claim: ClaimedJob) -> Results | None:
        entry: QueueEntry | None = self._directory.find(claim.queue)
        return entry.results if entry is not None else None

    # Outputs

    async def _store_outputs(self, leaving: Leaving) -> tuple[Leaving, tuple[OutputAccount, ...]]:
        """Upload what the job left; what cannot be stored for good turns a success, and only that, into a failure."""
        claim, ran = leaving.claim, leaving.outcome.started_at is not None
        if leaving.staged is None or not ran or not claim.job.outputs:
            return leaving, ()
        entry = await self.trail.entry(claim.key)
        if entry is not None and entry.uploaded is not None:
            return leaving, entry.uploaded.outputs
        await self.trail.tell_state(claim, "storing")
        try:
            accounts = await self._upload_all(leaving, leaving.staged)
        except RunnerError as error:
            await self.trail.say(claim, f"outputs could not be stored: {error}")
            if leaving.outcome.reason is EndReason.SUCCEEDED:
                leaving = leaving.failing(EndReason.OUTPUT_FAILED, str(error))
            return leaving, tuple(OutputAccount(output.path, problem=str(error)) for output in claim.job.outputs)
        await self.trail.record(claim.key, UploadRecord(accounts, self.world.now()))
        return leaving, accounts

    async def _upload_all(self, leaving: Leaving, staged: StagedJob) -> tuple[OutputAccount, ...]:
        accounts: list[OutputAccount] = []
        taken: dict[str, str] = {}
        succeeded = leaving.outcome.reason is EndReason.SUCCEEDED
        for output in leaving.claim.job.outputs:
            if output.when == "always" or succeeded:
                accounts.extend(await self._upload(leaving.claim, staged, output, taken))
        return tuple(accounts)

    async def _upload(
        self, claim: ClaimedJob, staged: StagedJob, output: Output, taken: dict[str, str]
    ) -> list[OutputAccount]:
        collect = lambda: self.world.workspaces.collect(staged.workspace, output, claim.id)  # noqa: E731 - one call, named
        patience = Patience(try_s=float(self.config.transfer_timeout), all_s=float(self.config.output_patience))
        found = await self.caller.until_done(collect, f"output {output.path}", patience)
        checked = [msgspec.structs.replace(file, problem=_problem(claim, output, file, taken)) for file in found]
        return [await self._upload_file(claim, output, file) for file in checked]

    async def _upload_file(self, claim: ClaimedJob, output: Output, file: CollectedFile) -> OutputAccount:
        if file.problem:
            await self.trail.say(claim, f"output {file.path}: {file.problem}")
            return OutputAccount(file.path, problem=file.problem)
        if not output.url:
            return OutputAccount(file.path, bytes=file.bytes, problem="no url says where it should be stored")
        url = url_of(output, claim.id, file.name)
        store = self.world.open_store(url, claim.rights)
        patience = Patience(try_s=float(self.config.transfer_timeout), all_s=float(self.config.output_patience))
        try:
            await self.caller.until_done(lambda: store.put(file.local, url), f"output {file.path}", patience)
        finally:
            await store.close()
        return OutputAccount(file.path, url=url, digest=file.digest, bytes=file.bytes)

    async def _remove_workspace(self, leaving: Leaving) -> None:
        """
        Delete the workspace of a job that succeeded; one that failed is kept for its owner to look at, for a while.
        """
        staged = leaving.staged
        kept = leaving.workspace_kept and self.config.keep_workspaces > 0
        if staged is None or kept:
            return
        try:
            remove = lambda: self.world.workspaces.remove(staged.workspace)  # noqa: E731 - one call, named
            await self.caller.until_done(remove, "removal of a workspace", COURTESY)
        except RunnerError as error:
            logger.warning(
                "a workspace is left over", extra={"action": "remove", "job_id": leaving.claim.id, "reason": str(error)}
            )

    # Log and receipt

    async def _store_log(self, leaving: Leaving) -> tuple[SpoolSeal, str]:
        claim = leaving.claim
        if leaving.outcome.reason is not EndReason.SUCCEEDED:
            await self.trail.say(claim, f"{leaving.outcome.reason.value}: {leaving.outcome.message}")
        seal = await self._try(lambda: self.world.spool.seal(claim.key, claim.attempt), f"spool of {claim.key}")
        results = self._results(claim)
        if results is None:
            return seal, ""
        put = lambda: results.put_log(claim.key, claim.attempt, seal.archive)  # noqa: E731 - one call, named
        try:
            return seal, await self.caller.until_done(put, f"log of {claim.key}", COURTESY)
        except RunnerError as error:
            logger.error(
                "a log archive was not stored", extra={"action": "store", "job_id": claim.id, "reason": str(error)}
            )
            return seal, ""

    async def _store_receipt(self, claim: ClaimedJob, receipt: Receipt) -> Receipt | None:
        """
        Put the receipt, once, and return the one that stands; None where a later attempt has left this one behind.

        One that stood already is ours from an earlier life, or of a box that died before it settled: it counts.
        """
        await self._put_beside_outputs(claim, receipt)
        results = self._results(claim)
        if results is None:
            return receipt
        try:
            await self._insist(lambda: results.put_receipt(receipt), f"receipt of {claim.key}")
        except AlreadyStored:
            stored = await self._insist(lambda: results.get(claim.key), f"receipt of {claim.key}")
            return stored if stored is not None and stored.attempt == receipt.attempt else None
        return receipt

    async def _insist(self, call: Callable[[], Awaitable[T]], what: str) -> T:
        """Call a result backend until it takes it: one that refuses must be mended by a person, and the job waits."""
        while True:
            try:
                return await self._try(call, what)
            except AlreadyStored:
                raise
            except RunnerError:
                logger.exception("a result backend refuses; the job waits", extra={"action": "store", "what": what})
                await asyncio.sleep(REFUSED_S)

    async def _clear_stop(self, claim: ClaimedJob) -> None:
        """Take away a stop mark that came too late or did its work, so that it never ends a later job of this id."""
        results = self._results(claim)
        if results is None:
            return
        try:
            await self.caller.until_done(lambda: results.clear_stop(claim.id), f"stop mark of {claim.id}", COURTESY)
        except RunnerError as error:
            facts = {"action": "clear_stop", "job_id": claim.id, "reason": str(error)}
            logger.warning("a stop mark is left over", extra=facts)

    async def _put_beside_outputs(self, claim: ClaimedJob, receipt: Receipt) -> None:
        """Write ``receipt.json`` where the first output stands; the result backend's is the one that counts."""
        first = next((output for output in claim.job.outputs if output.url and not output.key), None)
        urls = {output.url for output in receipt.outputs if output.url}
        if first is None or not urls:
            return
        url = url_of(first, claim.id, "receipt.json")
        if url in urls:
            return  # the job wrote one of its own, which is worth more to its owner
        store = self.world.open_store(url, claim.rights)
        try:
            text = msgspec.json.format(msgspec.json.encode(receipt), indent=2)
            await self.caller.until_done(lambda: store.put_bytes(text, url), f"receipt of {claim.key}", COURTESY)
        except RunnerError as error:
            logger.warning(
                "no receipt beside the outputs", extra={"action": "store", "job_id": claim.id, "reason": str(error)}
            )
        finally:
            await store.close()

    # Retention

    async def _prune(self) -> None:
        now, world = self.world.now(), self.world
        entries = await self.trail.in_flight()
        keep = frozenset(entry.staged.staged.workspace for entry in entries if entry.staged)
        keep |= frozenset(str(entry.key) for entry in entries)
        await self._try(lambda: world.workspaces.prune(now - self.config.keep_workspaces, keep), "old workspaces")
        await self._try(lambda: world.journal.prune(now - self.config.keep_journal), "old journal rows")

    async def _try(self, call: Callable[[], Awaitable[T]], what: str) -> T:
        return await self.caller.until_done(call, what)


def _problem(claim: ClaimedJob, output: Output, file: CollectedFile, taken: dict[str, str]) -> str:
    """Return why a file is not stored: its own problem, or an earlier one that already stands where it would."""
    if file.problem or not output.url:
        return file.problem
    url = url_of(output, claim.id, file.name)
    other = taken.setdefault(url, file.path)
    return "" if other == file.path else f"output {other} stands at {url} already: give one of them another url"
