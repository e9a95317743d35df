"""
One job's log on its way to one sink: read from the spool, written, and how far it got kept there.

It waits for its sink alone; the spool is its queue, so that it holds one piece in memory however far it is behind.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from actors.logs.coalescing import coalesced
from actors.logs.ends import event_of
from runner.calls import Caller
from runner.errors import RunnerError
from runner.messages import Reported
from runner.outlet import Outlet
from runner.ports import Cursor, End, Gap, LogLine, Position, World
from runner.receipt import Event
from runner.records import ClaimedJob

T = TypeVar("T")
logger = logging.getLogger(__name__)

LINGER_S = 0.02
ALONE_LINGER_S = 0.1
"""While a job has the box for itself, sinks are written to no more often."""
CHUNK_BYTES = 64 << 10
PIECE_BYTES = 1 << 20
JUDGED_BYTES = 256 << 10
"""A piece that may have to be coalesced, which takes the processor for some ten milliseconds then."""
SLOW_S = 0.25
IDLE_S = 60.0


class Moved(RunnerError):
    """Another connection stands for this sink now, or the sink is gone: this one may be away for good."""


@dataclass(frozen=True)
class Way:
    """From where to where: ``reports`` are the job's, which grow; ``check`` raises ``Moved``."""

    world: World
    caller: Caller
    claim: ClaimedJob
    outlet: Outlet
    reports: Sequence[Reported]
    is_alone: Callable[[], bool]
    check: Callable[[], None]


class Feed:
    """Runs once; another goes on where it ended. ``done`` then says whether the sink has the job's end."""

    def __init__(self, way: Way, told: int) -> None:
        """Begin where ``told`` of the reports were told by an earlier one."""
        self.grew, self.ending = asyncio.Event(), asyncio.Event()
        self.done, self.told = False, told
        if len(way.reports) > told:
            self.ending.set()
        self.claim, self.outlet = way.claim, way.outlet
        self._way, self._world = way, way.world
        self._key, self._sink = way.claim.key, way.outlet.sink
        self._position = Position()
        # Whether the last batch took long.
        self._slow = False

    async def run(self) -> None:
        """
        Send what there is and what comes, until the end is told or nothing came for a while.

        Raises:
            Moved: another connection stands for the sink.
            RunnerError: the sink answered no, and that is about this job alone.
        """
        cursor = await self._from_spool(lambda: self._world.spool.cursor(self._key, self.outlet.name))
        self._position = cursor.position if cursor is not None else Position()
        self.done = cursor is not None and cursor.done and not await self._read()
        if not self.done:
            begun = await self._tell(lambda: self._sink.open(self._key, self.claim.id), proves=False)
            self._position = max(self._position, begun or Position())
            await self._send_all()

    @property
    def wants_more(self) -> bool:
        """Whether something came that it has not looked at."""
        return self.grew.is_set() or (not self.done and len(self._way.reports) > self.told)

    async def _send_all(self) -> None:
        while not self.done:
            self.grew.clear()
            gap = await self._skip()
            report = self._next_report()
            lines = [line for line in await self._read() if report is None or line.attempt <= report.claim.attempt]
            if lines or gap:
                await self._send([*gap, *lines], _after(lines) or self._position)
            elif report is not None:
                await self._tell_end(report)
            elif not await self._more():
                return
            else:
                await self.linger()

    def _next_report(self) -> Reported | None:
        """Return what is to be told once its attempt's lines are; one of an attempt that is long over is not."""
        for report in self._way.reports[self.told :]:
            if report.last or report.claim.attempt >= self._position.attempt:
                return report
            self.told += 1
        return None

    async def _read(self) -> tuple[LogLine, ...]:
        most_bytes = JUDGED_BYTES if self._sink.traits.coalesces else PIECE_BYTES
        return await self._from_spool(lambda: self._world.spool.read(self._key, self._position, most_bytes))

    async def _behind(self, position: Position) -> int:
        return await self._from_spool(lambda: self._world.spool.behind(self._key, position))

    async def _from_spool(self, call: Callable[[], Awaitable[T]]) -> T:
        return await self._way.caller.until_done(call, f"spool of {self._key}")

    async def _send(self, lines: Sequence[LogLine], wanted: Position) -> None:
        """Write one piece and keep how far that is; then let the next one grow, unless it stands already."""
        behind = await self._behind(wanted)
        if self._sink.traits.coalesces and (self._slow or behind >= CHUNK_BYTES):
            lines = coalesced(lines)
        began = asyncio.get_running_loop().time()
        await self._write(lines)
        self._slow = asyncio.get_running_loop().time() - began > SLOW_S
        self._position = wanted
        await self._keep(Cursor(wanted))
        if behind < CHUNK_BYTES:
            await self.linger()

    async def _write(self, records: Sequence[LogLine]) -> None:
        events = [msgspec.json.decode(record.data, type=Event) for record in records if record.stream == "event"]
        lines = [record for record in records if record.stream != "event"]
        await self._tell(lambda: self._sink.write(self._key, self.claim.id, events, lines))

    async def _skip(self) -> list[LogLine]:
        """Go on near the end where the sink lags too far; return what stands in the place of what it misses."""
        limit = self._sink.traits.lag_max_bytes
        if limit is None or (behind := await self._behind(self._position)) <= limit:
            return []
        before = self._position
        # Half of it, lest the next line is too much again.
        self._position = await self._from_spool(lambda: self._world.spool.near_end(self._key, limit // 2))
        left_out = behind - await self._behind(self._position)
        gap = Gap(bytes=left_out, reason=f"{self.outlet.name} was more than {limit} bytes behind")
        at_ns = int(self._world.now() * 1e9)
        return [LogLine(before.attempt, before.sequence, at_ns, "gap", msgspec.json.encode(gap))]

    async def _tell_end(self, report: Reported) -> None:
        """Tell the one end of a job; an attempt that will be followed by another has none."""
        event = event_of(report)
        if report.last:
            await self._tell(lambda: self._sink.close(self._key, self.claim.id, End(event)))
            await self._keep(Cursor(self._position, done=True))
            self.done = True
        else:
            await self._tell(lambda: self._sink.write(self._key, self.claim.id, [event], []))
        self.told += 1
        if self._next_report() is None:
            self.ending.clear()

    async def _tell(self, call: Callable[[], Awaitable[T]], *, proves: bool = True) -> T:
        way, queue = self._way, self.claim.queue_name
        return await self.outlet.tell(call, way.caller, queue, check=way.check, proves=proves)

    async def _keep(self, cursor: Cursor) -> None:
        """Remember how far it got; where that cannot be written, the next life sends some lines once more."""
        keep = lambda: self._world.spool.keep_cursor(self._key, self.outlet.name, cursor)  # noqa: E731 - one call, named
        try:
            await self._way.caller.once(keep, f"cursor of {self._key}")
        except RunnerError as error:
            facts = {"action": "keep", "key": self._key, "sink": self.outlet.name, "reason": str(error)}
            logger.debug("how far a log was sent is not noted", extra=facts)

    async def linger(self) -> None:
        """Let some lines come together, unless the job ended: one trip to a sink costs as much as hundreds of lines."""
        await linger(self.ending, alone=self._way.is_alone())

    async def _more(self) -> bool:
        """Wait for the next line or the end; False after a while without either."""
        with suppress(TimeoutError):
            async with asyncio.timeout(IDLE_S):
                await self.grew.wait()
        return self.grew.is_set()


async def linger(ending: asyncio.Event, *, alone: bool) -> None:
    """Wait a moment, unless the job ends meanwhile."""
    if not ending.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(ALONE_LINGER_S if alone else LINGER_S):
                await ending.wait()


def _after(lines: Sequence[LogLine]) -> Position | None:
    return lines[-1].next if lines else None
