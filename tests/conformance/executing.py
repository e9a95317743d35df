"""The executor alone on a real runtime: a job is handed to it as it is in the ring, and how it ended comes back."""

from __future__ import annotations

import asyncio
import dataclasses
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from actors.executor import Executor, ExecutorMessage
from adapters.spool import FileSpool
from adapters.workspaces import FolderWorkspaces
from runner.config import Config
from runner.job import EndReason, Job, Key
from runner.kernel import Actor, Ref, Supervisor
from runner.messages import Ended, Exited, Granted, JobAdopted, Staged, StopJob
from runner.ports import Containers, Position, World
from runner.records import (
    ClaimedJob,
    ClaimRecord,
    Grant,
    GrantRecord,
    Outcome,
    Place,
    PlaceRecord,
    StagedJob,
    StageRecord,
)
from runner.stage import FaultBudget
from tests.conformance.container_harness import Harness
from tests.fakes.world import FakeWorld, new_life

LIMIT_S = 60.0
MIB = 1 << 20


class _Outputs(Actor[object]):
    """Keeps how jobs ended."""

    def __init__(self, told: asyncio.Queue[Exited | Ended]) -> None:
        self._told = told

    async def receive(self, message: object) -> None:
        if isinstance(message, (Exited, Ended)):
            self._told.put_nowait(message)


@dataclasses.dataclass
class Running:
    """One attempt of one job, which can be stopped, and waited for."""

    claim: ClaimedJob
    world: World
    executor: Ref[ExecutorMessage]
    told: asyncio.Queue[Exited | Ended]

    @property
    def name(self) -> str:
        """The container's name."""
        return f"{self.claim.key}.{self.claim.attempt}"

    def stop(self, reason: EndReason, message: str = "") -> None:
        """End it as its user, or a drain, does."""
        self.executor.urgent(StopJob(self.claim.key, self.claim.attempt, reason, time.time(), message))

    async def outcome(self) -> Outcome:
        """Wait for its end."""
        async with asyncio.timeout(LIMIT_S):
            told = await self.told.get()
        assert isinstance(told, Exited), told
        return told.outcome

    async def text(self, *streams: str) -> str:
        """Return what stands in its log."""
        found = b""
        position = Position()
        while lines := await self.world.spool.read(self.claim.key, position):
            found += b"".join(line.data for line in lines if line.stream in (streams or ("stdout", "stderr")))
            position = Position(lines[-1].attempt, lines[-1].sequence + 1)
        return found.decode(errors="replace")

    async def says(self, word: str, *streams: str) -> None:
        """Wait until its log has a word."""
        async with asyncio.timeout(LIMIT_S):
            while word not in await self.text(*streams):
                await asyncio.sleep(0.05)


def place(**changes: object) -> Place:
    """Return what jobs here get, but for these changes."""
    return Place(**{"memory": 256 * MIB, "cpus": 1.0, "disk": 1 << 30, **changes})  # type: ignore[arg-type]  # by name


@asynccontextmanager
async def executing(
    harness: Harness,
    containers: Containers,
    job: Job,
    here: Place | None = None,
    *,
    life: World | None = None,
    config: Config | None = None,
) -> AsyncIterator[Running]:
    """
    Hand a job to an executor of its own; leaving kills that executor as ``kill -9`` would, and the job runs on.

    With the world of an earlier ``life`` the same job is taken back.
    """
    world = dataclasses.replace(life or world_of(harness), containers={"process": containers})
    told: asyncio.Queue[Exited | Ended] = asyncio.Queue()
    supervisor = Supervisor("executing")
    outputs = supervisor.add("outputs", lambda: _Outputs(told))
    inventory = supervisor.add("inventory", lambda: _Outputs(told))
    executor: Ref[ExecutorMessage] = supervisor.add(
        "executor",
        lambda: Executor(config or Config(), world, FaultBudget(world.now), inventory=inventory, outputs=outputs),
    )
    running = asyncio.ensure_future(supervisor.run())
    try:
        yield Running(
            await _handed(harness, world, executor, job, here or place(), adopted=life is not None),
            world,
            executor,
            told,
        )
    finally:
        running.cancel()
        await asyncio.wait({running})
        await world.spool.close()  # type: ignore[attr-defined]  # a real one


async def _handed(
    harness: Harness, world: World, executor: Ref[ExecutorMessage], job: Job, here: Place, *, adopted: bool
) -> ClaimedJob:
    if adopted:
        (entry,) = await world.journal.in_flight()
        await executor.tell(JobAdopted(entry))
        return entry.claimed.claim
    key, now = Key(f"{job.id or 'job'}-{uuid.uuid4().hex[:12]}"), time.time()
    claim = ClaimedJob(key, job, "folder:///q", "q", "q.toml", claimed_at=now, runtime="process")
    grant, staged = Grant((here,)), StagedJob(str(harness.workspace(f"{key}.1")), harness.image)
    granted = GrantRecord(grant, now), PlaceRecord(grant.here.disk, now)
    for record in (ClaimRecord(claim, "token", b"", now), *granted, StageRecord(staged, now)):
        await world.journal.append(key, record)
    executor.urgent(Granted(claim, grant))
    await executor.tell(Staged(claim, staged))
    return claim


def world_of(harness: Harness) -> World:
    """Return a world of real logs and workspaces; the rest stands in memory."""
    fake = FakeWorld().open(new_life(1))
    return dataclasses.replace(
        fake,
        now=time.time,
        up_s=lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        spool=FileSpool(str(harness.directory / "spool"), time.time_ns),
        workspaces=FolderWorkspaces(str(harness.directory / "workspaces")),
    )
