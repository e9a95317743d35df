"""What becomes of a log that still comes when its container is long gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import cast

import msgspec

from actors.executor.attempt import Attempt
from actors.executor.capture import DRAIN_S, Capture
from runner.calls import Caller, Patience
from runner.job import Job, Key
from runner.ports import Chunk, Containers, Gap, LogLine, World
from runner.records import ClaimedJob, Grant, StagedJob
from runner.trail import Trail
from tests.fakes.world import FakeWorld
from tests.virtual_time import run_virtual

KEY = Key("job")
WRITTEN = b"".join(b"line %06d\n" % number for number in range(60_000))


class SlowLog:
    """Gives nothing until the first reading is given up, and everything from then on."""

    async def attach(self, name: str, skip: Mapping[str, int]) -> AsyncIterator[Chunk]:
        assert name
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, DRAIN_S - loop.time()))
        yield Chunk("stdout", WRITTEN[skip.get("stdout", 0) :])


class StuckLog:
    """Gives something and then never ends."""

    async def attach(self, name: str, skip: Mapping[str, int]) -> AsyncIterator[Chunk]:
        assert name
        if data := b"first\n"[skip.get("stdout", 0) :]:
            yield Chunk("stdout", data)
        await asyncio.Event().wait()


def drained(runtime: object) -> list[LogLine]:
    """Follow the log of a container that is gone already, to its end or to the end of all patience."""
    fakes = FakeWorld()
    world = cast("World", fakes)

    async def main() -> None:
        caller = Caller(lambda: 0.5, Patience())
        stop = asyncio.get_running_loop().create_future()
        claim = ClaimedJob(KEY, Job(id="job"), "q", "q", "file")
        attempt = Attempt(claim, StagedJob(""), Grant(()), 60.0, 10.0, stop=stop, heard_at=0.0)
        capture = Capture(attempt, cast("Containers", runtime), world.spool, caller, Trail(world, caller))
        log = asyncio.create_task(capture.follow())
        await asyncio.sleep(0)
        await capture.drained(log)
        await asyncio.wait({log})

    run_virtual(main())
    return [line for line in fakes.spool.lines[KEY] if line.stream in {"stdout", "gap"}]


def test_a_reading_that_begins_again_counts_what_the_one_before_wrote_last() -> None:
    """The one that is given up may be writing at that moment."""
    assert b"".join(line.data for line in drained(SlowLog())) == WRITTEN


def test_a_log_whose_end_nobody_waits_for_any_more_has_a_gap() -> None:
    """So that its receipt does not take it for whole."""
    lines = drained(StuckLog())
    assert ["stdout", "gap"] == [line.stream for line in lines]
    assert msgspec.json.decode(lines[1].data, type=Gap).bytes is None
