"""The limits of a running job: wall time, silence, disk. Each only asks for the end; the executor carries it out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from actors.executor.attempt import Attempt
from runner.calls import Caller
from runner.errors import RunnerError
from runner.job import EndReason
from runner.ports import World
from runner.units import format_duration, format_size

DISK_EVERY_S, ALONE_DISK_EVERY_S = 5.0, 20.0
"""Measuring would be seen in what a job that is alone measures; it asks how much is free instead, and less often."""


class Limits:
    """Watches one attempt; ``used_bytes`` measures its workspace, temporary files and log."""

    def __init__(
        self,
        attempt: Attempt,
        caller: Caller,
        world: World,
        *,
        used_bytes: Callable[[], Awaitable[int]],
    ) -> None:
        """Keep what to measure with."""
        self._attempt, self._caller, self._world, self._used_bytes = attempt, caller, world, used_bytes

    async def watch(self) -> None:
        """Watch all of them until cancelled."""
        silent_for = self._attempt.claim.job.silent_for
        async with asyncio.TaskGroup() as group:
            group.create_task(self._time())
            group.create_task(self._disk())
            if silent_for is not None:
                group.create_task(self._silence(float(silent_for)))

    async def _time(self) -> None:
        """Count from the start of the process, also over restarts of the runner."""
        limit = self._attempt.limit_s
        ran_s = self._attempt.ran_s(self._world.now(), self._world.up_s())
        await asyncio.sleep(max(0.0, limit - ran_s))
        self._attempt.end(EndReason.TIMEOUT, f"ran longer than its limit of {format_duration(limit)}")

    async def _silence(self, limit: float) -> None:
        clock = asyncio.get_running_loop().time
        while (left := self._attempt.heard_at + limit - clock()) > 0:
            await asyncio.sleep(left)
        self._attempt.end(EndReason.SILENT, f"no output for {format_duration(limit)}")

    async def _disk(self) -> None:
        limit, turn = self._attempt.grant.here.disk, self._turns()
        while True:
            await turn()
            try:
                used = await self._caller.once(self._used_bytes, "size of its files")
            except RunnerError:
                continue  # measured again at the next turn
            if used > limit:
                sizes = f"its files take {format_size(used)} with its log, and its disk is {format_size(limit)}"
                text = f"{sizes}: ask for more resources.disk"
                self._attempt.end(EndReason.DISK_EXCEEDED, text)
                return

    def _turns(self) -> Callable[[], Awaitable[None]]:
        """Return what waits until it is worth measuring again."""
        if self._attempt.claim.job.exclusive != "box":
            return lambda: asyncio.sleep(DISK_EVERY_S)
        return self._until_the_disk_fills

    async def _until_the_disk_fills(self) -> None:
        """Wait until so much is gone that a job which is alone may have taken more than its own; that costs nothing."""
        limit, most = self._attempt.grant.here.disk, 0
        while True:
            with contextlib.suppress(RunnerError):
                free = await self._caller.once(self._world.workspaces.free_bytes, "free disk")
                most = max(most, free)
                if most - free > limit:
                    return
            await asyncio.sleep(ALONE_DISK_EVERY_S)
