"""
One queue: fetch, claim, decode, keep the lease alive, settle. Never decides whether a job fits.

A credit from inventory allows one fetch. Verdicts are carried out here, because an acknowledgement belongs to the
connection that delivered; they stand in the journal, so a poller that restarts carries them out then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import assert_never
from weakref import WeakValueDictionary

import msgspec

from runner.config import Config
from runner.credential import Rights
from runner.directory import Directory, QueueEntry
from runner.errors import LeaseLost, RunnerError
from runner.intake import Intake, is_expired
from runner.job import Decision, EndReason, Key, Verdict
from runner.kernel import Ref
from runner.leases import Held, Leases
from runner.leaving import decision_of
from runner.messages import (
    CredentialChanged,
    CreditGiven,
    CreditReturned,
    Ended,
    LeaseCheck,
    LeaseChecked,
    Offered,
    QueueClosed,
    QueueStateTold,
    QuietChanged,
    Settled,
    StopFetching,
    StopJob,
    WithdrawAsked,
)
from runner.ports import Broker, Delivery, Queue, Results, World
from runner.receipt import Receipt
from runner.records import ClaimedJob, ClaimRecord, JournalEntry, SettleRecord, StoreRecord
from runner.stage import FaultBudget, Stage
from runner.units import format_duration

logger = logging.getLogger(__name__)

LONG_POLL_S = 20.0
PRUNE_EVERY_S = 3600.0
BUSY_S = 5.0
"""A submission of an id that runs already waits so long in the queue before it is looked at again."""


class _Opened(msgspec.Struct, frozen=True):
    """Self: the queue is open, and what the journal holds of it was taken up."""


class _Fetched(msgspec.Struct, frozen=True):
    """Self: a fetch ended; without an offer where ``found`` is false."""

    found: bool
    retry_after_s: float = 0.0
    shallow: bool = False


class _Done(msgspec.Struct, frozen=True):
    """Self: a claim is settled or lost."""


PollerMessage = (
    CreditGiven
    | Settled
    | LeaseCheck
    | CredentialChanged
    | StopFetching
    | WithdrawAsked
    | QuietChanged
    | _Opened
    | _Fetched
    | _Done
)


class Poller(Stage[PollerMessage]):
    """One queue behind one credential file."""

    name = "poller"

    def __init__(
        self,
        config: Config,
        world: World,
        faults: FaultBudget,
        *,
        source: str,
        rights: Rights,
        broker: Broker,
        queue_name: str,
        open_results: Callable[[], Results | None],
        directory: Directory,
        inventory: Ref[object],
        outputs: Ref[object],
        stages: tuple[Ref[object], ...],
        sources: Ref[object],
    ) -> None:
        super().__init__(config, world, faults)
        self.source, self.rights, self.queue_name = source, rights, queue_name
        self._broker, self._open_results = broker, open_results
        self._directory = directory
        self._inventory, self._outputs, self._stages, self._sources = inventory, outputs, stages, sources
        self._queue: Queue | None = None
        self._results: Results | None = None
        self._leases: Leases | None = None
        # Jobs that carried a stop mark and were told to the stages already.
        self._stop_told: set[str] = set()
        self._locks: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()
        # Set once the queue is open and what the journal holds of it is held: what arrives before waits for that.
        self._ready = asyncio.Event()
        self._fetching = False
        self._stopping = False

    @property
    def queue(self) -> Queue:
        """The open queue; no message that needs it arrives before it is open."""
        if self._queue is None:
            raise RuntimeError("the queue is not open yet")
        return self._queue

    @property
    def leases(self) -> Leases:
        """The claims that are ours."""
        if self._leases is None:
            raise RuntimeError("the queue is not open yet")
        return self._leases

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Open the queue in the background, since a broker may be away for hours."""
        self.start_soon(self._open, name="open")
        try:
            yield
        finally:
            if self._queue is not None:
                if self._ready.is_set():
                    self._inventory.urgent(CreditReturned(self._queue.identity, gone=True))
                self._directory.leave(self._queue.identity, self.ref)
                await self._queue.close()

    async def receive(self, message: PollerMessage) -> None:
        """Handle one message."""
        match message:
            case CreditGiven():
                self._use_credit(message)
            case _Fetched():
                await self._fetched(message)
            case Settled():
                self._start(self._settle, message.key, name=f"settle {message.key}")
            case LeaseCheck():
                self._start(self._answer_check, message.key, name=f"check {message.key}")
            case _Opened():
                self._introduce()
                await self._close_if_done()
            case _Done():
                await self._close_if_done()
            case StopFetching():
                await self._stop_fetching()
            case WithdrawAsked():
                self.start_soon(self._withdraw, message, name=f"withdraw {message.job_id} {id(message)}")
            case CredentialChanged():
                self._change_credential(message)
            case QuietChanged():
                pass
            case _:
                assert_never(message)

    def _start(self, work: Callable[..., object], *args: object, name: str) -> None:
        """Begin a task unless it runs already: both are idempotent, and the journal holds what they need."""
        if name not in self.tasks():
            self.start_soon(work, *args, name=name)  # type: ignore[arg-type]

    # Opening, and what the journal holds from before

    async def _open(self) -> None:
        queue = await self._until_open()
        self._queue = queue
        self._leases = Leases(queue, self.caller, lost=self._lost, trouble=self._in_trouble)
        await self._until_alone(queue)
        self._directory.enter(queue.identity, QueueEntry(queue.name, self.ref, self._results))
        entries = await self.trail.in_flight()
        for entry in entries:
            if entry.claimed.claim.queue == queue.identity:
                self._take_up(entry)
        self._ready.set()
        self.start_soon(self._renew_loop, name="renew")
        self.start_soon(self._look_loop, name="look")
        self.start_soon(self.regularly, self._prune, PRUNE_EVERY_S, "pruning", name="prune")
        self.ref.urgent(_Opened())

    async def _until_open(self) -> Queue:
        """Open queue and result backend with back-off, telling ``runner sources`` why they are not open yet."""
        pause = 0.2
        while True:
            try:
                self._results = self._open_results()
                return await self.caller.once(lambda: self._broker.open(self.queue_name), f"queue {self.queue_name}")
            except RunnerError as error:
                self._tell_state(f"backing off: {error}")
            await asyncio.sleep(pause * (0.5 + self.world.random() / 2))
            pause = min(30.0, pause * 2)

    async def _until_alone(self, queue: Queue) -> None:
        """Wait while another credential file serves this very queue: two readers here would be one too many."""
        while (other := self._directory.find(queue.identity)) is not None and other.poller is not self.ref:
            self._tell_state("waiting: another credential file serves this queue already")
            await asyncio.sleep(5.0)

    def _take_up(self, entry: JournalEntry) -> None:
        """Hold what an earlier life claimed; carry out the verdict where one stands."""
        claim = entry.claimed.claim
        self.leases.held[entry.key] = Held(entry.claimed.token, claim.id, claim.attempt)
        if entry.stored is not None:
            self._start(self._settle, entry.key, name=f"settle {entry.key}")

    def _introduce(self) -> None:
        self._tell_state("polling")
        if not self._stopping:
            self._inventory.urgent(CreditReturned(self.queue.identity, weight=self.rights.weight))

    def _tell_state(self, state: str, depth: int | None = None) -> None:
        self._sources.urgent(QueueStateTold(self.source, self.queue_name, state, depth))

    # Fetching

    def _use_credit(self, credit: CreditGiven) -> None:
        if self._stopping or self._fetching or not self._ready.is_set():
            return  # one that was given to an earlier instance: this one introduces itself, and is given its own
        self._fetching = True
        self.start_soon(self._fetch, credit, name="fetch", on_error=self._fetch_broke)

    def _fetch_broke(self, error: Exception) -> _Fetched:
        logger.error("fetching failed", exc_info=error, extra={"action": "fetch", "source": self.source})
        return _Fetched(found=False, retry_after_s=5.0)

    async def _fetch(self, credit: CreditGiven) -> None:
        """Use one credit: an offer, or the credit back. A long poll is not cut off by anything but its own limit."""
        try:
            if credit.ahead and await self.caller.once(self.queue.depth, "depth of the queue") < 2:  # noqa: PLR2004
                self.ref.urgent(_Fetched(found=False, shallow=True))
                return
            limit = LONG_POLL_S + self.caller.patience.try_s
            delivery = await self.caller.once(lambda: self.queue.fetch(LONG_POLL_S), "fetch", try_s=limit)
            found = delivery is not None and await self._take(delivery, ahead=credit.ahead)
            self.ref.urgent(_Fetched(found))
            self._tell_state("polling")
        except RunnerError as error:
            self._tell_state(f"backing off: {error}")
            self.ref.urgent(_Fetched(found=False, retry_after_s=1.0 + 4.0 * self.world.random()))

    async def _fetched(self, message: _Fetched) -> None:
        if not self._fetching:
            return  # an earlier instance's
        self._fetching = False
        if not message.found and not self._stopping:
            rest_s, weight = message.retry_after_s, self.rights.weight
            self._inventory.urgent(CreditReturned(self.queue.identity, weight, rest_s, shallow=message.shallow))
        await self._close_if_done()

    async def _take(self, delivery: Delivery, *, ahead: bool) -> bool:
        """Journal a delivery and send it on its way; False where it was not offered to inventory."""
        claim, problem = self._intake().claim(delivery, self.world.now())
        async with self._alone_with(claim.key):
            entry = await self.trail.entry(claim.key)
            if entry is not None and self._known(entry, claim, delivery):
                await self._retake(entry, delivery)
                return False
            if self._stopping:
                await self._put_off(delivery, 0.0, "the runner stops")
                return False
            if self._earlier_one_runs(entry, claim):
                await self._put_off(delivery, BUSY_S, "an earlier one of its id runs")
                return False
            if not await self.leases.stands(delivery.token, claim.claimed_at, self.world.now()):
                return False
            held = Held(delivery.token, claim.id, claim.attempt)
            self.leases.hold(claim.key, held, age_s=self.world.now() - claim.claimed_at)
            await self.trail.record(claim.key, ClaimRecord(claim, delivery.token, delivery.body, self.world.now()))
            if await self._ended_elsewhere(claim):
                return False
        await self.trail.tell_state(claim, "waiting", f"claimed from {self.queue_name}")
        return await self._send_on(claim, problem, ahead=ahead)

    def _earlier_one_runs(self, entry: JournalEntry | None, claim: ClaimedJob) -> bool:
        """
        Tell whether another submission of this id, or an earlier attempt of this one, is not done here.

        An earlier attempt that still runs while a later one is delivered has lost its claim long ago.
        """
        if entry is not None and entry.settled is None and not _is_lost(entry):
            if entry.stored is None:
                earlier = entry.claimed.claim
                self._tell_stages(StopJob(entry.key, earlier.attempt, EndReason.LEASE_LOST, self.world.now()))
            else:
                self._start(self._settle, entry.key, name=f"settle {entry.key}")
            return True
        return self.leases.other_with_id(claim.id, claim.key)

    async def _ended_elsewhere(self, claim: ClaimedJob) -> bool:
        """Settle a job whose receipt of this attempt stands: whoever wrote it died before it settled."""
        stored = await self._standing_receipt(claim)
        if stored is None:
            return False
        await self.trail.record(claim.key, StoreRecord(stored, decision_of(stored, claim), self.world.now()))
        self._start(self._settle, claim.key, name=f"settle {claim.key}")
        return True

    async def _standing_receipt(self, claim: ClaimedJob) -> Receipt | None:
        """Return the receipt of this attempt; a backend that is away is asked again before anything is stored."""
        results = self._results
        if results is None:
            return None
        try:
            stored = await self.caller.once(lambda: results.get(claim.key), f"receipt of {claim.key}")
        except RunnerError:
            return None
        return stored if stored is not None and stored.attempt == claim.attempt else None

    def _intake(self) -> Intake:
        dialect = self.world.dialects[self.rights.dialect]
        names = (self.source, self.queue.identity, self.queue_name)
        return Intake(dialect, self.rights, *names, default_image=self.config.default_image)

    def _alone_with(self, key: Key) -> asyncio.Lock:
        """Keep taking and settling one job apart, so that no record falls on the wrong claim."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock

    def _known(self, entry: JournalEntry, claim: ClaimedJob, delivery: Delivery) -> bool:
        """Tell whether the journal has this very attempt: it runs, or its verdict stands."""
        if claim.attempt > entry.claimed.claim.attempt or _is_lost(entry):
            return False
        if entry.stored is None:
            return entry.settled is None
        decision = entry.stored.decision
        released = decision is not None and decision.verdict is Verdict.RELEASE
        return not (entry.settled is not None and released and delivery.token != entry.claimed.token)

    async def _retake(self, entry: JournalEntry, delivery: Delivery) -> None:
        """One message delivered twice: a running job's token changes, a stored one is settled again."""
        claim = entry.claimed.claim
        held = Held(delivery.token, claim.id, claim.attempt)
        if entry.settled is not None and entry.stored is not None and entry.stored.decision is not None:
            await self._try_to_carry_out(held, entry.stored.decision)
            return
        self.leases.held[entry.key] = held
        await self.trail.record(entry.key, ClaimRecord(claim, delivery.token, delivery.body, self.world.now()))
        if entry.stored is not None:
            self._start(self._settle, entry.key, name=f"settle {entry.key}")

    async def _put_off(self, delivery: Delivery, after_s: float, reason: str) -> None:
        """Give a delivery back as it came."""
        settle = lambda: self.queue.settle(  # noqa: E731 - one call, named
            delivery.token, Verdict.RELEASE, after_s=after_s, note=delivery.note, reason=reason
        )
        await self.caller.until_done(settle, f"release of {delivery.submission}")

    async def _send_on(self, claim: ClaimedJob, problem: str, *, ahead: bool) -> bool:
        """Offer a job, or end it here; only an offer uses up the credit."""
        if problem:
            await self._outputs.tell(Ended(claim, EndReason.REJECTED, problem))
        elif is_expired(claim, self.world.now()):
            text = f"older than its limit of {format_duration(claim.job.expires or 0.0)} when it was claimed"
            await self._outputs.tell(Ended(claim, EndReason.EXPIRED, text))
        elif await self._has_stop_mark(claim):
            await self._outputs.tell(Ended(claim, EndReason.CANCELLED, "cancelled while it waited in the queue"))
        else:
            await self._inventory.tell(Offered(claim, ahead))
            return True
        return False

    async def _has_stop_mark(self, claim: ClaimedJob) -> bool:
        if self._results is None:
            return False
        try:
            return claim.id in await self.caller.once(self._results.stops, "stop marks")
        except RunnerError:
            return False  # the renewal loop reads them again

    # Leases

    async def _renew_loop(self) -> None:
        """Renew every third of the lease, and first at once: what an earlier life held may be about to lapse."""
        clock = asyncio.get_running_loop().time
        while True:
            next_at = clock() + self.queue.lease_s / 3
            await self.leases.renew_all()
            await asyncio.sleep(max(0.0, next_at - clock()))

    async def _look_loop(self) -> None:
        """Read stop marks and tell the depth beside the renewals, which must wait for neither."""
        while True:
            await self._read_stop_marks()
            await self._tell_depth()
            await asyncio.sleep(self.queue.lease_s / 3)

    async def _tell_depth(self) -> None:
        try:
            self._tell_state("polling", await self.caller.once(self.queue.depth, "depth of the queue"))
        except RunnerError as error:
            self._in_trouble(str(error))

    def _in_trouble(self, reason: str) -> None:
        self._tell_state(f"backing off: {reason}")

    def _lost(self, key: Key, held: Held) -> None:
        self._start(self._tell_lost, key, held, name=f"lost {key}")

    async def _tell_lost(self, key: Key, held: Held) -> None:
        entry = await self.trail.entry(key)
        if entry is not None and entry.stored is None:  # else its verdict is on its way, and settling finds out
            self._tell_stages(StopJob(key, held.attempt, EndReason.LEASE_LOST, self.world.now()))

    def _tell_stages(self, stop: StopJob) -> None:
        for stage in self._stages:
            stage.urgent(stop)

    async def _read_stop_marks(self) -> None:
        if self._results is None or not self.leases.held:
            return
        try:
            marked = await self.caller.once(self._results.stops, "stop marks")
        except RunnerError:
            return
        for key, held in self.leases.held.items():
            if held.job_id in marked and held.job_id not in self._stop_told:
                self._stop_told.add(held.job_id)
                self._tell_stages(StopJob(key, held.attempt, EndReason.CANCELLED, self.world.now()))

    async def _answer_check(self, key: Key) -> None:
        """Answer before something is stored, however long the broker is away."""
        await self._ready.wait()
        self._outputs.urgent(LeaseChecked(key, held=await self.leases.is_held(key)))

    # Settling

    async def _settle(self, key: Key) -> None:
        """Carry out the verdict that stands in the journal; one that was carried out is left alone."""
        await self._ready.wait()
        async with self._alone_with(key):
            entry = await self.trail.entry(key)
            if entry is None or entry.stored is None or entry.settled is not None:
                return
            held = self.leases.held.get(key)
            if held is not None and entry.stored.decision is not None:
                await self._try_to_carry_out(held, entry.stored.decision)
            await self.trail.record(key, SettleRecord(self.world.now()))
            self.leases.held.pop(key, None)
            self._stop_told.discard(entry.claimed.claim.id)
        self.ref.urgent(_Done())

    async def _try_to_carry_out(self, held: Held, decision: Decision) -> None:
        try:
            await self.caller.until_done(lambda: self._carry_out(held, decision), f"settlement of {held.job_id}")
        except LeaseLost:
            logger.warning("a claim was lost before it was settled", extra={"action": "settle", "job_id": held.job_id})

    async def _carry_out(self, held: Held, decision: Decision) -> None:
        await self.queue.settle(
            held.token, decision.verdict, after_s=decision.after_s, note=decision.note, reason=decision.note.last_reason
        )

    # Stopping

    def _change_credential(self, message: CredentialChanged) -> None:
        """Take over new rights; a file that came back lets fetching go on."""
        if message.file.credential is not None:
            self.rights = message.file.credential.rights
        if self._stopping:
            self._stopping = False
            if self._ready.is_set() and not self._fetching:
                self._introduce()

    async def _stop_fetching(self) -> None:
        """A long poll that is under way is waited for: what it brings is offered still, or lapses."""
        self._stopping = True
        self._tell_state("finishing")
        if self._ready.is_set():
            self._inventory.urgent(CreditReturned(self.queue.identity, gone=True))
        await self._close_if_done()

    async def _close_if_done(self) -> None:
        if self._stopping and not self._fetching and not await self._anything_held():
            self._sources.urgent(QueueClosed(self.source, self.queue_name))

    async def _anything_held(self) -> bool:
        """Whether claims are to be settled here; before the queue is open, only the journal can tell."""
        if self._ready.is_set():
            return bool(self.leases.held)
        entries = await self.trail.in_flight()
        names = {(entry.claimed.claim.source, entry.claimed.claim.queue_name) for entry in entries}
        return (self.source, self.queue_name) in names

    async def _withdraw(self, asked: WithdrawAsked) -> None:
        try:
            if self._queue is not None and await self.caller.once(
                lambda: self.queue.withdraw(asked.job_id), "withdrawal"
            ):
                asked.reply.answer(f"withdrawn from queue {self.queue_name}, where it waited")
                return
            asked.reply.answer("")
        except RunnerError as error:
            asked.reply.fail(error)

    # Retention

    async def _prune(self) -> None:
        """Delete what was kept long enough of this queue's: dead letters, and what its result backend holds."""
        now = self.world.now()
        await self.queue.prune(now - self.config.keep_dead)
        if self._results is not None:
            await self._results.prune(now - self.config.keep_results)


def _is_lost(entry: JournalEntry) -> bool:
    """Tell whether the claim behind an entry was lost: what is delivered after that begins afresh."""
    return entry.stored is not None and entry.stored.decision is None
