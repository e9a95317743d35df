"""
Fan-out: one feed a job and sink over each job's spool. Never slows a job down.

The spool on disk is the truth; this only reads. That something was added is a flag on the spool, not a message.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import assert_never

import msgspec

from actors.logs.arrears import LATE_MAX, LOOK_AGAIN_S, Arrears
from actors.logs.feed import Feed, Moved, Way, linger
from actors.logs.pump import Pump
from runner.backend import Backend
from runner.config import Config
from runner.directory import Directory
from runner.errors import RunnerError
from runner.job import EndReason, Key
from runner.messages import Reported
from runner.outlet import Outlet
from runner.ports import World
from runner.quiet import Quiet
from runner.records import ClaimedJob
from runner.stage import FaultBudget, Stage

logger = logging.getLogger(__name__)

PRUNE_EVERY_S = 3600.0


class _SpoolGrew(msgspec.Struct, frozen=True):
    """Self: these jobs' spools have something new, or something that a sink may not have."""

    keys: frozenset[Key]


class _FeedEnded(msgspec.Struct, frozen=True):
    """Self: a feed ended, because of an error where there is one."""

    key: Key
    sink: str
    error: Exception | None = None


class _Looked(msgspec.Struct, frozen=True):
    """Self: it was looked where a job's log goes, and it is fed there."""

    key: Key
    error: Exception | None = None


LogsMessage = Reported | _SpoolGrew | _FeedEnded | _Looked


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
        self._arrears = Arrears(config, world, self.caller, self.trail, directory)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Watch the spools, tell what an earlier life may not have told, and delete old spools."""
        self.start_soon(self._watch, name="watch")
        self.start_soon(self._make_up, name="arrears")
        self.start_soon(self.regularly, self._prune, PRUNE_EVERY_S, "pruning", name="prune")
        yield

    async def receive(self, message: LogsMessage) -> None:
        """Handle one message."""
        match message:
            case Reported():
                self._report(message)
            case _SpoolGrew():
                for key in sorted(message.keys):
                    self._wake(key)
            case _FeedEnded():
                self._ended(message)
            case _Looked():
                self._looked(message)
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

    async def _make_up(self) -> None:
        """Feed what an earlier life left, and later what was left for a sink or a queue that was away."""
        while True:
            async for key, reported in self._arrears.all():
                if reported is not None:
                    self.ref.urgent(reported)
                elif key not in self._pumps:
                    self.ref.urgent(_SpoolGrew(frozenset({key})))
            await self._arrears.again()

    # One job

    def _report(self, reported: Reported) -> None:
        key = reported.claim.key
        if reported.reason is EndReason.LEASE_LOST:
            self._drop(key)  # its log goes on where the job does
            return
        pump = self._pumps.setdefault(key, Pump())
        pump.report(reported)
        for name in tuple(pump.feeds) if pump.is_over else ():
            self._may_wait(key, pump, name)
        self._wake(key)

    def _drop(self, key: Key) -> None:
        self.cancel_task(f"look {key}")
        for name in self._pumps.pop(key, Pump()).feeds:
            self.cancel_task(f"feed {key} {name}")

    def _may_wait(self, key: Key, pump: Pump, name: str) -> None:
        """Let a feed of a job that ended wait for its sink, unless so many do already that it is better done later."""
        feed = pump.feeds[name]
        if feed.outlet.late_has_room(key, LATE_MAX):
            feed.outlet.late.add(key)
            return
        self.cancel_task(f"feed {key} {name}")
        pump.ended(name)
        self._arrears.add(feed.claim.queue, name)

    def _wake(self, key: Key) -> None:
        pump = self._pumps.setdefault(key, Pump())
        pump.wake()
        if pump.wants_feeds and not self.has_task(f"look {key}"):
            failed = lambda error: _Looked(key, error)  # noqa: E731 - one call, named
            self.start_soon(self._look, key, pump, name=f"look {key}", on_error=failed)

    async def _look(self, key: Key, pump: Pump) -> None:
        """Begin the feeds that a job lacks."""
        await linger(pump.ending, alone=self.quiet.alone is not None)
        entry = await self.trail.entry(key)
        backend = await self._backend(entry.claimed.claim, pump) if entry is not None else None
        if entry is not None and backend is not None:
            with backend.in_use():
                pump.sinks = frozenset(backend.outlets)
                for outlet in backend.outlets.values():
                    self._begin(pump, entry.claimed.claim, outlet, backend)
                await asyncio.sleep(0)  # now they use it themselves
        self.ref.urgent(_Looked(key))

    async def _backend(self, claim: ClaimedJob, pump: Pump) -> Backend | None:
        """Return what stands behind a job's queue; what is away comes with its poller, and only who runs waits."""
        while (entry := self._directory.find(claim.queue)) is None:
            if pump.is_over:
                self._arrears.add(claim.queue, "")
                return None
            await asyncio.sleep(LOOK_AGAIN_S)
        return entry.backend

    def _begin(self, pump: Pump, claim: ClaimedJob, outlet: Outlet, backend: Backend) -> None:
        key, name = claim.key, outlet.name
        if name in pump.feeds or name in pump.broken:
            return
        if pump.is_over and not outlet.late_has_room(key, LATE_MAX):
            self._arrears.add(claim.queue, name)
            return
        if pump.is_over:
            outlet.late.add(key)
        check = lambda: self._check(claim, outlet)  # noqa: E731 - one call, named
        way = Way(self.world, self.caller, claim, outlet, pump.reports, lambda: self.quiet.alone is not None, check)
        feed = pump.feeds[name] = Feed(way, pump.told.get(name, 0))
        failed = lambda error: _FeedEnded(key, name, error)  # noqa: E731 - one call, named
        self.start_soon(self._run, feed, backend, name=f"feed {key} {name}", on_error=failed)

    async def _run(self, feed: Feed, backend: Backend) -> None:
        key, outlet = feed.claim.key, feed.outlet
        try:
            with backend.in_use(), outlet.in_use():
                await feed.run()
        finally:
            outlet.late.discard(key)
        self.ref.urgent(_FeedEnded(key, outlet.name))

    def _check(self, claim: ClaimedJob, outlet: Outlet) -> None:
        entry = self._directory.find(claim.queue)
        if entry is not None and entry.backend.outlets.get(outlet.name) is not outlet:
            raise Moved

    def _ended(self, message: _FeedEnded) -> None:
        """Begin again where something came in the last moment, or where another connection stands now."""
        key, name, error = message.key, message.sink, message.error
        pump = self._pumps.get(key)
        if pump is None or name not in pump.feeds or self.has_task(f"feed {key} {name}"):
            return  # one before that, or of a job that was dropped
        feed = pump.ended(name)
        self._release_soon(feed.claim.queue)
        if error is not None and not isinstance(error, Moved):
            pump.broken.add(name)
            _log_failure(key, name, error)
        if error is None and not feed.wants_more:
            self._finish(key, pump)
        else:
            self._wake(key)

    def _looked(self, message: _Looked) -> None:
        if message.error is not None:
            _log_failure(message.key, "", message.error)
        if (pump := self._pumps.get(message.key)) is not None:
            self._finish(message.key, pump)

    def _finish(self, key: Key, pump: Pump) -> None:
        """Forget a job that is not fed any more; once every sink has its end, its archives are enough."""
        if pump.feeds or self.has_task(f"look {key}") or (pump.broken and not pump.is_over):
            return
        del self._pumps[key]
        if pump.is_told and not self.has_task(f"shed {key}"):
            self.start_soon(self._shed, key, name=f"shed {key}")

    async def _shed(self, key: Key) -> None:
        try:
            await self.caller.once(lambda: self.world.spool.shed(key), f"spool of {key}")
        except RunnerError as error:
            facts = {"action": "shed", "key": key, "reason": str(error)}
            logger.warning("a log takes its space twice until it is deleted", extra=facts)

    def _release_soon(self, queue: str) -> None:
        entry = self._directory.find(queue)
        if entry is not None and entry.backend.has_replaced and not self.has_task(f"release {queue}"):
            self.start_soon(entry.backend.release_replaced, self.caller, name=f"release {queue}")

    # Retention

    async def _prune(self) -> None:
        entries = await self.trail.in_flight()
        keep = frozenset(entry.key for entry in entries)
        before = self.world.now() - self.config.keep_spools
        await self.caller.until_done(lambda: self.world.spool.prune(before, keep), "old spools")


def _log_failure(key: Key, sink: str, error: Exception) -> None:
    known = isinstance(error, RunnerError)
    facts = {"action": "feed", "key": key, "sink": sink, "reason": str(error)}
    logger.error("a log's fan-out failed", exc_info=None if known else error, extra=facts)
