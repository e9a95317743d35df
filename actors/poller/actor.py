"""
One queue: fetch, claim, decode, keep the lease alive, settle. Never decides whether a job fits.

A credit from inventory allows one fetch. Verdicts are carried out here, because an acknowledgement belongs to the
connection that delivered; they stand in the journal, so a poller that restarts carries them out then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import assert_never

import msgspec

from actors.poller.intake import Intake
from actors.poller.leases import Held, Leases
from actors.poller.open_queue import OpenQueue
from actors.poller.opening import end_cut_off, has_claims, open_once, rest_s, until_alone, until_open
from actors.poller.queue_work import Fetched, QueueWork
from runner.allowance import Allowance
from runner.backend import Backend
from runner.config import Config
from runner.directory import Directory, QueueEntry
from runner.errors import RunnerError
from runner.job import Key
from runner.kernel import Ref
from runner.messages import (
    CredentialChanged,
    CreditGiven,
    CreditReturned,
    LeaseCheck,
    LeaseChecked,
    QueueClosed,
    QueueStateTold,
    SendBeat,
    Settled,
    StopFetching,
    TakenOver,
    WithdrawAsked,
)
from runner.policy import widened
from runner.ports import World
from runner.quiet import Quiet
from runner.source import StandingPoller
from runner.stage import FaultBudget, Stage

logger = logging.getLogger(__name__)

PRUNE_EVERY_S = 3600.0


class _Done(msgspec.Struct, frozen=True):
    """Self: the queue was tried, a claim is settled, or logs are told; that may have been the last thing to do."""


_FromSources = CredentialChanged | StopFetching
_Told = CreditGiven | Settled | LeaseCheck | _FromSources | TakenOver | WithdrawAsked | SendBeat
PollerMessage = _Told | Fetched | _Done


class Poller(Stage[PollerMessage]):
    """One queue behind one credential file."""

    name = "poller"

    def __init__(
        self,
        config: Config,
        world: World,
        faults: FaultBudget,
        *,
        standing: StandingPoller,
        backend: Backend,
        directory: Directory,
        allowance: Allowance,
        stages: tuple[Ref[object], ...],
        sources: Ref[object],
        quiet: Quiet,
    ) -> None:
        super().__init__(config, world, faults, quiet)
        self.rights, self.source, self.queue_name = standing.credential.rights, standing.file.file, standing.queue
        self._standing, self._backend, self._directory, self._sources = standing, backend, directory, sources
        self._inventory, self._outputs, self._stages, self._allowance = stages[0], stages[-1], stages, allowance
        # None until the queue is open, however long its broker is away.
        self._work: QueueWork | None = None
        # Set once the queue is open and what the journal holds of it is held: what arrives before waits for that.
        self._ready = asyncio.Event()
        self._fetching = self._stopping = self._cancelling = self._taken_over = False
        # Set when the queue is closed: whoever took it over waits for that.
        self._closed = asyncio.Event()

    @property
    def work(self) -> QueueWork:
        """What is done on the open queue; no message that needs it arrives before it is open."""
        if self._work is None:
            raise RuntimeError("the queue is not open yet")
        return self._work

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Open the queue in the background, since a broker may be away for hours."""
        self.start_soon(self._open, name="open")
        away = (lambda: self._standing, self._directory, self.trail, self._stages, self.world.now)
        self.start_soon(end_cut_off, *away, name="cut off")
        try:
            yield
        finally:
            if self._work is not None:
                identity = self._work.queue.identity
                if self._ready.is_set():
                    self._inventory.urgent(CreditReturned(identity, gone=True))
                self._directory.leave(identity, self.ref)
                try:
                    await self._work.queue.close()
                finally:
                    self._closed.set()

    async def receive(self, message: PollerMessage) -> None:
        """Handle one message."""
        match message:
            case CreditGiven():
                self._use_credit(message)
            case Fetched():
                await self._fetched(message)
            case Settled():
                self._settle_soon(message.key)
            case LeaseCheck():
                self._start(self._answer_check, message.key, name=f"check {message.key}")
            case _Done():
                await self._close_if_done()
            case StopFetching():
                await self._stop_fetching(cancel=message.cancel)
            case WithdrawAsked():
                self.start_soon(self._withdraw, message, name=f"withdraw {message.job_id} {id(message)}")
            case CredentialChanged():
                self._change_credential(message)
            case TakenOver():
                self._taken_over = True
                await self._close_if_done()
            case SendBeat():
                self._start(self._backend.beat, self.caller, message.beat, name="beat")
            case _:
                assert_never(message)

    def _start(self, work: Callable[..., Awaitable[None]], *args: object, name: str) -> None:
        """Begin a task unless it runs already: all are idempotent, and the journal holds what they need."""
        if not self.has_task(name):
            self.start_soon(work, *args, name=name)

    async def _open(self) -> None:
        opened = await until_open(self._open_once, self.world.random, self._in_trouble)
        self.cancel_task("cut off")
        told = self._tell_state, lambda: self._stopping, self._settle_soon
        work = self._work = QueueWork(opened, self._stages, *told, quiet=self.quiet)
        identity = work.queue.identity
        self.ref.urgent(_Done())
        about = (self.source, self.rights.results, lambda: not self._stopping, self._holds_still, self._closed)
        entry = QueueEntry(work.queue.name, self.ref, self._backend, work.queue.ends_claims, *about)
        await until_alone(self._directory, identity, entry, self._waits)
        await work.take_up()
        self._ready.set()
        if self._cancelling:
            work.lookout.cancel_all()
        self.start_soon(work.leases.renew_regularly, name="renew")
        self.start_soon(work.lookout.look_regularly, name="look")
        self.start_soon(self.regularly, partial(opened.prune, self.config), PRUNE_EVERY_S, "pruning", name="prune")
        self._introduce()
        self.ref.urgent(_Done())

    async def _open_once(self) -> OpenQueue:
        queue = await open_once(self._standing, self._backend, self.caller)
        stops = lambda: self.rights.cut_off == "stop"  # noqa: E731 - rights may change
        leases = Leases(queue, self.caller, lost=self._lost, trouble=self._in_trouble, ends_unrenewed=stops)
        about = self.caller, self.trail, self.world.now, self._allowance
        return OpenQueue(queue, self._backend.results, leases, *about)

    def _holds_still(self) -> int | None:
        return len(self.work.leases.held) if self._ready.is_set() and self._stopping and not self._fetching else None

    def _introduce(self) -> None:
        self._tell_state("polling")
        if not self._stopping:
            self._inventory.urgent(CreditReturned(self.work.queue.identity, weight=self.rights.weight))

    def _tell_state(self, state: str, depth: int | None = None) -> None:
        warning = self._work.opened.warning if self._work is not None else ""
        self._sources.urgent(QueueStateTold(self._standing.source, self.queue_name, state, depth, warning))

    # Fetching

    def _use_credit(self, credit: CreditGiven) -> None:
        if self._stopping or self._fetching or self._taken_over or not self._ready.is_set():
            return  # an earlier instance was meant: this one introduces itself, and is given its own
        self._fetching = True
        self.start_soon(self._fetch, credit, name="fetch", on_error=self._fetch_broke)

    def _fetch_broke(self, error: Exception) -> Fetched:
        logger.error("fetching failed", exc_info=error, extra={"action": "fetch", "source": self.source})
        return Fetched(found=False, retry_after_s=5.0)

    async def _fetch(self, credit: CreditGiven) -> None:
        """Use one credit: an offer, or the credit back. A long poll is not cut off by anything but its own limit."""
        try:
            self.ref.urgent(await self.work.fetch(self._intake(), credit))
            self._tell_state("polling")
        except RunnerError as error:
            self._in_trouble(str(error))
            self.ref.urgent(Fetched(found=False, retry_after_s=rest_s(error, self.world.random)))

    async def _fetched(self, message: Fetched) -> None:
        if not self._fetching:
            return  # an earlier instance's
        self._fetching = False
        if not message.found and not self._stopping:
            rest_s, weight = message.retry_after_s, self.rights.weight
            self._inventory.urgent(CreditReturned(self.work.queue.identity, weight, rest_s, shallow=message.shallow))
        await self._close_if_done()

    def _intake(self) -> Intake:
        queue, rights = self.work.queue, widened(self.rights, self.config)
        names, dialect = (self.source, queue.identity, self.queue_name), self.world.dialects[rights.dialect]
        return Intake(dialect, rights, *names, self.config.default_image, release_costs=queue.release_costs)

    # Claims and their verdicts

    def _in_trouble(self, reason: str) -> None:
        self._waits(f"backing off: {reason}")

    def _waits(self, state: str) -> None:
        self._tell_state(state)
        self.ref.urgent(_Done())  # what it has not got to finish may be finished by whoever took it over

    def _lost(self, key: Key, held: Held) -> None:
        self._start(self.work.lookout.lost, key, held, name=f"lost {key}")

    async def _answer_check(self, key: Key) -> None:
        """Answer before something is stored, however long the broker is away; one that refuses us is asked again."""
        await self._ready.wait()
        try:
            self._outputs.urgent(LeaseChecked(key, held=await self.work.leases.is_held(key)))
        except RunnerError as error:
            self._in_trouble(str(error))

    def _settle_soon(self, key: Key) -> None:
        self._start(self._settle, key, name=f"settle {key}")

    async def _settle(self, key: Key) -> None:
        await self._ready.wait()
        if await self.work.settle(key):
            self.ref.urgent(_Done())

    # Stopping

    def _change_credential(self, message: CredentialChanged) -> None:
        """Take over new rights; a file that came back lets fetching go on, also beside a fetch that outlived it."""
        if (credential := message.file.credential) is not None:
            self.rights = credential.rights
            self._standing = msgspec.structs.replace(self._standing, file=message.file, credential=credential)
        stopped, self._stopping, self._cancelling = self._stopping, False, False
        self.ref.urgent(_Done())
        if not self._taken_over and self._ready.is_set() and (stopped or not self._fetching):
            self._introduce()

    async def _stop_fetching(self, *, cancel: bool) -> None:
        """A long poll that is under way is waited for: what it brings is offered still, or lapses."""
        self._stopping, self._cancelling = True, cancel
        if cancel and self._ready.is_set():
            self.work.lookout.cancel_all()
        self._tell_state("finishing")
        if self._ready.is_set():
            self._inventory.urgent(CreditReturned(self.work.queue.identity, gone=True))
        await self._close_if_done()

    async def _close_if_done(self) -> None:
        if not self._taken_over and (not self._stopping or self._fetching or await self._anything_held()):
            return
        if self._backend.is_used and not self._taken_over:
            self._start(self._close_when_unused, name="close")
        else:
            self._sources.urgent(QueueClosed(self._standing.source, self.queue_name, self._taken_over))

    async def _close_when_unused(self) -> None:
        """A log is still told to its end; meanwhile the file may come back."""
        await self._backend.unused()
        self.ref.urgent(_Done())

    async def _anything_held(self) -> bool:
        """Whether claims are to be settled here."""
        if self._ready.is_set():
            return bool(self.work.leases.held)
        return await has_claims(self._directory, self.trail, self.ref, self.source, self.queue_name)

    async def _withdraw(self, asked: WithdrawAsked) -> None:
        await self._ready.wait()
        await self.work.withdraw(asked, self._intake())
