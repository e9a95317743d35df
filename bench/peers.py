"""
What the ring is measured beside: a loop that only starts jobs, and a loop that only starts processes.

Both keep two at work. The first makes for each job the same workspace, log files, limits and exit file by the same
starter as the ring, waits for the end, reads the log and removes it all; it has no queue, journal, spool or receipt.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec

from adapters.registry import open_containers
from adapters.state_dir import StateDir
from adapters.workspaces import FolderWorkspaces
from runner.config import Config
from runner.job import make_key
from runner.ports import Containers, ContainerSpec, Workspaces
from runner.records import Grant

AT_ONCE = 2
COMMAND = ("true",)

Work = Callable[[int], Awaitable[None]]
"""One job, told which of the two slots it has."""


class Span(msgspec.Struct, frozen=True):
    """One job's time, from when it was asked for until all of it was done, in epoch seconds."""

    began_at: float
    ended_at: float

    @property
    def ms(self) -> float:
        """How long it took."""
        return (self.ended_at - self.began_at) * 1000


class Block(msgspec.Struct, frozen=True):
    """Some jobs measured together, and the processor time that this process used meanwhile."""

    spans: tuple[Span, ...]
    cpu_s: float

    @property
    def ms_a_job(self) -> float:
        """Wall time of the whole block, divided."""
        began, ended = min(span.began_at for span in self.spans), max(span.ended_at for span in self.spans)
        return (ended - began) * 1000 / len(self.spans)

    @property
    def cpu_ms_a_job(self) -> float:
        """Processor time of this process, that of the jobs aside."""
        return self.cpu_s * 1000 / len(self.spans)


class Given(msgspec.Struct, frozen=True):
    """What jobs of the ring got, for the loop to give to its own: a grant for each slot, and paths."""

    grants: tuple[Grant, ...]
    paths: tuple[str, ...]


class StartLoop:
    """The loop that only starts jobs."""

    def __init__(self, containers: Containers, workspaces: Workspaces, given: Given) -> None:
        self._containers, self._workspaces, self._given = containers, workspaces, given

    async def block(self, names: Sequence[str]) -> Block:
        """Run a job for each name."""

        def work(name: str) -> Work:
            return lambda slot: self.job(name, slot)

        return await at_once([work(name) for name in names])

    async def job(self, name: str, slot: int, command: tuple[str, ...] = COMMAND) -> None:
        """Run one job from its workspace to the removal of all that it left, with the grant of a slot."""
        key = make_key("bench", name, "1")
        workspace = await self._workspaces.create(key, 1)
        spec = ContainerSpec(
            name=f"{key}.1",
            key=key,
            attempt=1,
            command=command,
            env={"RUNNER_JOB_ID": name, "RUNNER_ATTEMPT": "1"},
            workspace=workspace,
            grant=self._given.grants[slot % len(self._given.grants)],
            shm=64 << 20,
            paths=self._given.paths,
            deadline_at=time.time() + 86_400,
        )
        await self._containers.start(spec)
        assert (await self._containers.wait(spec.name)).code == 0
        async for chunk in self._containers.attach(spec.name, {}):
            raise AssertionError(chunk)
        await self._containers.remove(spec.name)
        await self._workspaces.remove(workspace)


@asynccontextmanager
async def open_start_loop(config: Config, given: Given) -> AsyncIterator[StartLoop]:
    """Open it on the state directory of a configuration, with the containers that the ring would have there."""
    state = StateDir(config.state_dir)
    workspaces = FolderWorkspaces(os.path.join(state.path, "workspaces"))
    containers = open_containers(config, state, state.box_id())["process"]
    try:
        yield StartLoop(containers, workspaces, given)
    finally:
        await containers.close()
        await workspaces.close()


async def bare_block(count: int) -> Block:
    """Run the command as a bare subprocess, so many times."""

    async def run(_slot: int) -> None:
        process = await asyncio.create_subprocess_exec(*COMMAND)
        assert await process.wait() == 0

    return await at_once([run] * count)


async def at_once(jobs: Sequence[Work], slots: int = AT_ONCE) -> Block:
    """Do all jobs in so many slots, and measure each."""
    waiting, spans = iter(jobs), list[Span]()

    async def slot(number: int) -> None:
        for job in waiting:
            began_at = time.time()
            await job(number)
            spans.append(Span(began_at, time.time()))

    used_s = time.process_time()
    async with asyncio.TaskGroup() as group:
        for number in range(slots):
            group.create_task(slot(number))
    return Block(tuple(spans), time.process_time() - used_s)
