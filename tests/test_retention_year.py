"""
A box left alone for a year: a job a day, every real store on disk, a wall clock that runs a thousand times too fast.

The loop's clock jumps, so that the year takes eight hours of it, and those a few seconds; whatever is pruned every hour
of the loop is pruned every six weeks of the year.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from adapters.blobs import FolderBlobs
from adapters.journal import SqliteJournal
from adapters.queues.folder import FolderBroker, FolderQueue
from adapters.registry import dialects, open_store
from adapters.results.folder import FolderResults
from adapters.sinks.opening import open_sinks
from adapters.spool import FileSpool
from adapters.workspaces import FolderWorkspaces
from runner.app import build
from runner.config import Config
from runner.credential import Credential, CredentialFile, Rights
from runner.ports import NOBODY, Box, Containers, Credentials, Delivery, GpuProbe, World
from runner.units import Duration
from tests.fakes.containers import FakeContainers, FakeProbe
from tests.fakes.disk import FakeCredentials
from tests.fakes.images import FakeImageRecords
from tests.fakes.world import job_bytes
from tests.virtual_time import run_virtual

pytestmark = pytest.mark.integration

DAY_S = 86_400.0
FAST = 3 * 365
DAYS = 365
SLACK_DAYS = 48  # between two times of pruning
BOX = Box("box-1", (0, 1), 8 << 30, 100 << 30)
RIGHTS = Rights(runtime="process", paths=("/",), own=True, sole_reader=True)
JOURNAL_MAX_BYTES = 4 << 20
KINDS = ("good", "bad", "broken")


class Year:
    """The box's disk, and the time. It began ten years ago: what the kernel stamps by itself never looks old."""

    def __init__(self, root: Path) -> None:
        self.root, self.queue = root, root / "queue"
        self.results = FolderResults(str(self.queue / "results"), box_id=BOX.id)
        self.containers = FakeContainers(BOX, 0, self.now, lambda: 0.0)
        self.began = time.time() - 3650 * DAY_S
        self.loop = asyncio.get_running_loop()

    def broker(self) -> FolderBroker:
        clock = LoopClock(self)
        return PatientBroker(str(self.queue), box_id=BOX.id, now=self.now, lease_s=60, single=True, clock=clock)

    def now(self) -> float:
        return self.began + self.loop.time() * FAST

    def day(self) -> float:
        return (self.now() - self.began) / DAY_S

    @asynccontextmanager
    async def world(self) -> AsyncIterator[World]:
        own = CredentialFile("own", "own", Credential("folder", "own", RIGHTS, lease=Duration(60)))
        async with AsyncExitStack() as opened:
            ports = (
                SqliteJournal(str(self.root / "journal.db"), str(self.root / "journal.key")),
                FileSpool(str(self.root / "spool"), lambda: int(self.now() * 1e9)),
                FolderWorkspaces(str(self.root / "workspaces")),
                FolderBlobs(str(self.root / "cache"), self.now),
            )
            for port in (*ports, self.results):
                opened.push_async_callback(port.close)
            journal, spool, workspaces, blobs = ports
            yield World(
                box=BOX,
                now=self.now,
                up_s=self.now,
                random=random.Random(1).random,
                keep_off=lambda _cores: None,
                journal=journal,
                credentials=cast("Credentials", FakeCredentials(lambda: (own,))),
                spool=spool,
                workspaces=workspaces,
                blobs=blobs,
                probe=cast("GpuProbe", FakeProbe(0)),
                containers={"process": cast("Containers", self.containers)},
                images=None,
                image_records=FakeImageRecords(),
                dialects=dialects(),
                open_broker=lambda _: self.broker(),
                open_store=open_store,
                open_results=lambda _credential, _queue: self.results,
                open_sinks=functools.partial(open_sinks, (), dialects()),
            )

    def stamp(self) -> None:
        """Give files that were written today the date of the year, as its kernel would have done."""
        places = ("spool/*/*", "queue/results/uploads/*", "queue/results/logs/*", "queue/notes/*")
        for path in (path for place in places for path in self.root.glob(place)):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime > self.began + 400 * DAY_S:
                    os.utime(path, (self.now(), self.now()))

    def count(self, place: str) -> int:
        return len(list(self.root.glob(place)))


class LoopClock:
    """The clock of the queue's leases and delays, which go by the loop."""

    def __init__(self, year: Year) -> None:
        self._year = year

    def now(self) -> float:
        return self._year.began + self._year.loop.time()


class PatientQueue:
    """The folder queue, waited for in the loop's time instead of in a thread's."""

    def __init__(self, queue: FolderQueue) -> None:
        self._queue = queue

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    async def fetch(self, wait_s: float, served: Mapping[str, float] = NOBODY) -> Delivery | None:
        ends = asyncio.get_running_loop().time() + wait_s
        while (delivery := await self._queue.fetch(0, served)) is None and asyncio.get_running_loop().time() < ends:
            await asyncio.sleep(wait_s)
        return delivery


class PatientBroker(FolderBroker):
    async def open(self, name: str, *, make: bool = True) -> FolderQueue:
        return cast("FolderQueue", PatientQueue(await super().open(name, make=make)))


async def live(year: Year, world: World) -> None:
    """Put a job into the queue every day, of each kind in turn, and one that runs all year."""
    runner = build(Config(own_queue=False, timeout=Duration(400 * int(DAY_S))), world)
    running = asyncio.ensure_future(runner.run())
    broker = year.broker()
    queue = await broker.open("queue")
    await put(queue, "forever", ["run", str(int(366 * DAY_S)), "0", "1"])
    for day in range(DAYS):
        await put(queue, f"{KINDS[day % 3]}-{day}", ["run", "60", str(day % 3), "3"])
        await asyncio.sleep(DAY_S / FAST / 2)
        year.stamp()
        check(year)
        await asyncio.sleep(DAY_S / FAST / 2)
    await runner.stop(grace_s=30.0, order=("logs",))
    await running
    await queue.close()
    await broker.close()


async def put(queue: FolderQueue, job_id: str, command: list[str]) -> None:
    fields = {"id": job_id, "command": command}
    body = b"command = [" if job_id.startswith("broken") else job_bytes(**fields)
    await queue.put(body, job_id=job_id)


def check(year: Year) -> None:
    """Whatever is kept, is kept for its days, and after the next pruning it is gone."""
    day, config = year.day(), Config()
    for place, share, kept in PLACES:
        days = float(getattr(config, kept)) / DAY_S
        least, most = share * min(day, days), share * min(day, days + SLACK_DAYS)
        assert least - 2 <= year.count(place) <= most + 3, f"{place} on day {day:.0f}: {year.count(place)} files"


# Where something stands, how many a day, and the key that says for how long.
PLACES = (
    ("spool/*", 1.0, "keep_spools"),
    ("queue/results/jobs/*", 1.0, "keep_results"),
    ("queue/results/ids/*", 1.0, "keep_results"),
    ("queue/results/logs/*", 1.0, "keep_results"),
    ("queue/dead/*", 1 / 3, "keep_dead"),
    ("queue/notes/*", 1 / 3, "keep_dead"),
)


@pytest.mark.timeout(300)
def test_a_year_leaves_what_is_kept_and_no_more(tmp_path: Path) -> None:
    """The job that runs all year is never touched. Workspaces go by a time that no test can set: seen elsewhere."""

    async def main() -> Year:
        year = Year(tmp_path)
        async with year.world() as world:
            await live(year, world)
            rows = await world.journal.list(limit=10_000, ended=True)
        kept_days = Config().keep_journal / DAY_S
        assert kept_days - 2 <= len(rows) <= kept_days + SLACK_DAYS + 2
        (forever,) = [row for row in rows if row.claimed.claim.id == "forever"]
        assert (forever.state, year.containers.starts[f"{forever.key}.1"]) == ("running", 1)
        return year

    year = run_virtual(main(), limit_s=2 * DAY_S)
    assert year.count("spool/forever.*") == year.count("workspaces/forever.*") == 1
    assert year.count("queue/claimed/*") == 1
    assert year.count("queue/ready/*") == year.count("queue/later/*") == year.count("cache/*/*") == 0
    assert (tmp_path / "journal.db").stat().st_size < JOURNAL_MAX_BYTES
