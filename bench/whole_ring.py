"""
The real runner in this process, on a directory of its own, fed with jobs that wait outside of its queue until released.

Composed as ``runner run`` does it: ``open_world`` and ``build``. Nothing of it is changed, wrapped or watched from
within; when a job was settled is what the journal says.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType

import msgspec

from adapters.journal import SqliteJournal
from adapters.queues.folder import FolderBroker, FolderQueue
from adapters.queues.folder_names import read_message
from adapters.registry import open_world
from adapters.results.folder import FolderResults
from adapters.spool import FileSpool
from bench.deletions import Deletions
from bench.peers import COMMAND, Block, Given, Span
from runner.app import Runner, build
from runner.config import Config
from runner.job import EndReason
from runner.ports import Results, World
from runner.records import JournalEntry

LIMIT_S = 600.0
STOP_S = 5.0


class NotWholeError(Exception):
    """The ring lacks its journal, spools or receipts, so what would be measured is something else."""


@dataclass(frozen=True)
class Kept:
    """What a job must leave behind."""

    journal: SqliteJournal
    spool: FileSpool
    results: FolderResults


def kept(world: World, results: Results | None) -> Kept:
    """
    Look whether jobs leave behind what they must.

    Raises:
        NotWholeError: one of the three is off, or is something that costs less.
    """
    match world.journal, world.spool, results:
        case SqliteJournal() as journal, FileSpool() as spool, FolderResults() as receipts:
            return Kept(journal, spool, receipts)
        case _:
            raise NotWholeError(f"journal {world.journal}, spool {world.spool}, receipts {results}")


class WholeRing:
    """A runner that runs; jobs go round it only inside of ``block``."""

    def __init__(self, what: Kept, waiting: FolderQueue, held: str, queue: str, job: Mapping[str, object]) -> None:
        self._kept, self._waiting, self._held, self._queue, self._job = what, waiting, held, queue, job
        # An acknowledged message disappears from here; one that is renewed gets another name.
        self._settled = Deletions(os.path.join(queue, "claimed"))
        self._released = 0

    async def block(self, ids: Sequence[str], *, standing: int) -> Block:
        """
        Let jobs go round, at most ``standing`` of them in the queue and the ring at once.

        A job's time is from its release into the queue until the journal holds its settlement.
        """
        names = await self._put(ids)
        released_at, used_s = dict[str, float](), time.process_time()
        for job_id in ids:
            await self._settled.until(self._released + 1 - standing, LIMIT_S)
            released_at[job_id] = time.time()
            os.rename(os.path.join(self._held, names[job_id]), os.path.join(self._queue, "ready", names[job_id]))
            self._released += 1
        await self._settled.until(self._released, LIMIT_S)
        entries = await self._ended(len(ids))
        used_s = time.process_time() - used_s
        return Block(tuple(_span(entry, released_at) for entry in entries), used_s)

    async def given(self) -> Given:
        """Return what the jobs of the last block were given."""
        entries = await self._ended(self._released)
        grants = {entry.granted.grant.here.cores: entry.granted.grant for entry in entries if entry.granted}
        return Given(tuple(grants.values()), entries[0].claimed.claim.rights.paths)

    async def prove(self) -> None:
        """
        Look whether every job that went round left all behind.

        Raises:
            NotWholeError: one did not.
        """
        rows = await self._kept.results.list(ended=True)
        receipts = {row.id for row in rows if row.end_reason == EndReason.SUCCEEDED}
        for entry in await self._ended(self._released):
            receipts.remove(entry.claimed.claim.id)
            if not (entry.stored and entry.settled and await self._kept.spool.sealed(entry.key)):
                raise NotWholeError(f"{entry.key}: not stored, settled and sealed")
        if receipts or len(rows) != self._released:
            raise NotWholeError(f"{len(rows)} receipts for {self._released} jobs")

    def close(self) -> None:
        """Watch the queue no longer."""
        self._settled.close()

    async def _put(self, ids: Sequence[str]) -> dict[str, str]:
        """Write messages where nobody reads them; return their names by id."""
        for job_id in ids:
            await self._waiting.put(msgspec.json.encode({"id": job_id, **self._job}), job_id=job_id)
        messages = map(read_message, os.listdir(self._held))
        return {message.job: message.name for message in messages if message}

    async def _ended(self, count: int) -> tuple[JournalEntry, ...]:
        """Return the newest entries of the journal, once it holds nothing unsettled."""
        while await self._kept.journal.in_flight():
            await asyncio.sleep(0.001)
        return await self._kept.journal.list(limit=count, ended=True)


def _span(entry: JournalEntry, released_at: Mapping[str, float]) -> Span:
    assert entry.settled, entry.key
    return Span(released_at[entry.claimed.claim.id], entry.settled.at)


@asynccontextmanager
async def open_ring(
    config: Config, held: str, job: Mapping[str, object] = MappingProxyType({"command": COMMAND})
) -> AsyncIterator[WholeRing]:
    """Run the runner; its jobs, which are all ``job`` with ids of their own, wait in the directory ``held``."""
    async with open_world(config) as world, asyncio.TaskGroup() as group:
        runner = build(config, world)
        running = group.create_task(runner.run())
        broker = FolderBroker(held, box_id="", now=time.time, lease_s=config.lease, single=True)
        waiting = await broker.open("held")
        results = await _results_of(runner)
        ring = WholeRing(
            kept(world, results), waiting, os.path.join(held, "ready"), os.path.join(config.state_dir, "queue"), job
        )
        try:
            yield ring
        finally:
            ring.close()
            await waiting.close()
            await broker.close()
            await runner.stop(grace_s=STOP_S, order=("logs",))
            running.cancel()


async def _results_of(runner: Runner) -> Results | None:
    """Wait until the runner reads its own queue."""
    async with asyncio.timeout(LIMIT_S):
        while not runner.directory.all():
            await asyncio.sleep(0.01)
    return runner.directory.all()[0].results
