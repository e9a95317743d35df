"""
Fan-out: one cursor per sink over each job's spool. Never slows a job down.

The spool on disk is the truth; this only reads. That something was added is a flag on the spool, not a message.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar, assert_never

import msgspec

from runner.backend import Backend
from runner.config import Config
from runner.directory import Directory
from runner.errors import ConfigurationError, RunnerError
from runner.job import EndReason, Key
from runner.messages import Reported
from runner.ports import End, LogLine, Position, Sink, World
from runner.quiet import Quiet
from runner.receipt import Event
from runner.records import ClaimedJob, StoreRecord
from runner.stage import FaultBudget, Stage
from runner.units import format_duration

T = TypeVar("T")
logger = logging.getLogger(__name__)

LINGER_S = 0.025
ALONE_LINGER_S = 0.1
"""While a job has the box for itself, sinks are written to no more often."""
LOOK_AGAIN_S = 1.0
IDLE_S = 60.0
LATE_ENDS = 200
REFUSED_S = 30.0
PRUNE_EVERY_S = 3600.0


class _SpoolGrew(msgspec.Struct, frozen=True):
    """Self: these jobs' spools have something new."""

    keys: frozenset[Key]


class _Finished(msgspec.Struct, frozen=True):
    """Self: a pump ended."""

    key: Key


LogsMessage = Reported | _SpoolGrew | _Finished


class _Moved(RunnerError):
    """The queue of a job was taken over, with another connection to its result backend."""


class Pump:
    """What one job's fan-out knows: whether its spool grew, and how the job ended."""

    def __init__(self) -> None:
        self.grew = asyncio.Event()
        self.reported: Reported | None = None
        # Set with every report, for whoever waits for more lines meanwhile.
        self.ending = asyncio.Event()

    def report(self, reported: Reported) -> None:
        """Take in how the job ended."""
        self.reported = reported
        self.ending.set()

    def done_with(self, reported: Reported | None) -> None:
        """Forget an end that was told; a later attempt's may have come meanwhile."""
        if self.reported is reported:
            self.reported = None
            self.ending.clear()


class Logs(Stage[LogsMessage]):
    """Follows every spool that grows, to every sink of its queue."""

    name = "logs"

    def __init__(
        self, config: Config, world: World, faults: FaultBudget, *, directory: Directory, quiet: Quiet
    ) -> None:
        super().__init__(config, world, faults, quiet)
        self._directory = directory
        # One a job whose spool grew lately; it goes when the end is told, or when nothing came for a while.
        self._pumps: dict[Key, Pump] = {}

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Watch the spools, tell the ends that an earlier life may not have told, and delete old spools."""
        self.start_soon(self._watch, name="watch")
        self.start_soon(self._tell_late_ends, name="late ends")
        self.start_soon(self.regularly, self._prune, PRUNE_EVERY_S, "pruning", name="prune")
        yield

    async def receive(self, message: LogsMessage) -> None:
        """Handle one message."""
        match message:
            case Reported():
                self._pump(message.claim.key).report(message)
                self._wake(message.claim.key)
            case _SpoolGrew():
                for key in sorted(message.keys):
                    self._wake(key)
            case _Finished():
                self._finished(message.key)
            case _:
                assert_never(message)

    async def _watch(self) -> None:
        while True:
            try:
                keys = await self.world.spool.news()
                self.ref.urgent(_SpoolGrew(keys))
            except RunnerError as error:
                logger.warning("spools cannot be watched", extra={"action": "watch", "reason": str(error)})
                await asyncio.sleep(1.0)

    async def _tell_late_ends(self) -> None:
        """Tell again how the newest jobs ended: one may have been settled just before an earlier life ended."""
        entries = await self.caller.until_done(lambda: self.world.journal.list(limit=LATE_ENDS, ended=True), "journal")
        kept_from = self.world.now() - self.config.keep_results
        for entry in entries:
            stored = entry.stored
            if stored is not None and stored.receipt.state == "ended" and stored.at > kept_from:
                self.ref.urgent(reported_of(entry.claimed.claim, stored))

    def _pump(self, key: Key) -> Pump:
        return self._pumps.setdefault(key, Pump())

    def _wake(self, key: Key) -> None:
        self._pump(key).grew.set()
        if not self.has_task(f"pump {key}"):
            self.start_soon(self._run_pump, key, name=f"pump {key}", on_error=lambda error: self._broke(key, error))

    def _broke(self, key: Key, error: Exception) -> _Finished:
        known = isinstance(error, RunnerError)
        facts = {"action": "pump", "key": key, "reason": str(error)}
        logger.error("a log's fan-out failed", exc_info=None if known else error, extra=facts)
        pump = self._pump(key)
        pump.done_with(pump.reported)
        return _Finished(key)

    def _finished(self, key: Key) -> None:
        """Begin again where something came in the last moment; else forget the job."""
        pump = self._pumps.get(key)
        if pump is not None and (pump.grew.is_set() or pump.reported is not None):
            self._wake(key)
        else:
            self._pumps.pop(key, None)

    # One job

    async def _run_pump(self, key: Key) -> None:
        """Send one job's spool to every sink of its queue, until the end is told or nothing came for a while."""
        pump = self._pump(key)
        await self._linger(pump)
        pump.grew.clear()
        entry = await self.trail.entry(key)
        if entry is None or not await self._feed_all(pump, entry.claimed.claim):
            pump.done_with(pump.reported)  # nobody is told
        self.ref.urgent(_Finished(key))

    async def _feed_all(self, pump: Pump, claim: ClaimedJob) -> bool:
        """Feed what a queue has; False where that is nothing."""
        backend = await self._backend(claim)
        with backend.in_use():
            for sink in backend.sinks.values():
                await self._feed_until_allowed(pump, claim, sink, backend)
        return bool(backend.sinks)

    async def _backend(self, claim: ClaimedJob) -> Backend:
        """Return the result backend of a job's queue, with its sinks; one that is away comes with its poller."""
        while (entry := self._directory.find(claim.queue)) is None:
            await asyncio.sleep(LOOK_AGAIN_S)
        return entry.backend

    async def _feed_until_allowed(self, pump: Pump, claim: ClaimedJob, sink: Sink, backend: Backend) -> None:
        """Begin again where a sink refuses our login or lacks a right: a person mends that, and the spool waits."""
        while True:
            try:
                return await self._feed(pump, claim, sink)
            except _Moved:
                return pump.grew.set()  # the next pump goes on where the queue is now
            except ConfigurationError as error:
                backend.refused(claim.queue_name, error)
            await asyncio.sleep(REFUSED_S)

    async def _feed(self, pump: Pump, claim: ClaimedJob, sink: Sink) -> None:
        key = claim.key
        position = await self._tell(claim, sink, lambda: sink.open(key, claim.id)) or Position()
        while True:
            pump.grew.clear()
            reported = pump.reported
            if reported is not None and reported.reason is EndReason.LEASE_LOST:
                pump.done_with(reported)
                return  # its log goes on where the job does
            lines = await self.caller.until_done(lambda: self.world.spool.read(key, position), f"spool of {key}")  # noqa: B023
            if lines:
                await self._tell(claim, sink, lambda: self._write(claim, sink, lines))  # noqa: B023
                position = Position(lines[-1].attempt, lines[-1].sequence + 1)
            elif reported is not None:
                await self._close(reported, sink)
                pump.done_with(reported)
                return
            elif not await self._more(pump):
                return
            await self._linger(pump)

    async def _tell(self, claim: ClaimedJob, sink: Sink, call: Callable[[], Awaitable[T]]) -> T:
        """
        Call a sink until it takes it.

        Raises:
            _Moved: its queue has another one now; this one may be away for good.
        """

        async def unless_moved() -> T:
            entry = self._directory.find(claim.queue)
            if entry is not None and sink not in entry.backend.sinks.values():
                raise _Moved
            return await call()

        return await self.caller.until_done(unless_moved, f"sink for {claim.key}")

    async def _linger(self, pump: Pump) -> None:
        """Let some lines come together, unless the job ended: one trip to a sink costs as much as hundreds of lines."""
        if not pump.ending.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(LINGER_S if self.quiet.alone is None else ALONE_LINGER_S):
                    await pump.ending.wait()

    async def _more(self, pump: Pump) -> bool:
        """Wait for the next line or the end; False after a while without either."""
        try:
            async with asyncio.timeout(IDLE_S):
                await pump.grew.wait()
        except TimeoutError:
            return pump.grew.is_set()
        return True

    async def _write(self, claim: ClaimedJob, sink: Sink, records: tuple[LogLine, ...]) -> None:
        events = [msgspec.json.decode(record.data, type=Event) for record in records if record.stream == "event"]
        lines = [record for record in records if record.stream != "event"]
        await sink.write(claim.key, claim.id, events, lines)

    async def _close(self, reported: Reported, sink: Sink) -> None:
        """Tell the one end of a job; an attempt that will be followed by another has none."""
        claim = reported.claim
        state = "ended" if reported.last else "waiting"
        event = Event(
            claim.key,
            claim.id,
            reported.at,
            state,
            claim.attempt,
            reported.message,
            reported.reason.value,
            reported.exit_code,
        )
        if reported.last:
            await self._tell(claim, sink, lambda: sink.close(claim.key, claim.id, End(event)))
        else:
            said = f"{ending_of(event)}; tried again after {format_duration(reported.after_s)}"
            retried = msgspec.structs.replace(event, end_reason=None, message=said)
            await self._tell(claim, sink, lambda: sink.write(claim.key, claim.id, [retried], []))

    # Retention

    async def _prune(self) -> None:
        entries = await self.trail.in_flight()
        keep = frozenset(entry.key for entry in entries)
        before = self.world.now() - self.config.keep_spools
        await self.caller.until_done(lambda: self.world.spool.prune(before, keep), "old spools")


def ending_of(event: Event) -> str:
    """Return the end reason and the sentence, or one of them where they say the same."""
    reason = event.end_reason or event.state
    return f"{reason}: {event.message}" if event.message not in {"", reason} else reason


def reported_of(claim: ClaimedJob, stored: StoreRecord) -> Reported:
    """Say again how a job ended, from its receipt."""
    receipt = stored.receipt
    reason = EndReason(receipt.end_reason or EndReason.RUNNER_FAULT)
    return Reported(claim, reason, receipt.exit_code, receipt.message, last=True, at=stored.at)
