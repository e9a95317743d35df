"""Ends everything that runs on a demo's state directory: the runner by its pid, then its jobs; nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from runner.config import Config
from runner.errors import StateLocked, Unavailable

if TYPE_CHECKING:
    from adapters.state_dir import StateDir
    from runner.ports import Containers

KILLED_WITHIN_S = 10.0
PAUSE_S = 0.02


def config_of(state: Path) -> Config:
    """Return what of a demo's configuration matters to its jobs: where they are, and that Docker is left alone."""
    return Config(state_dir=str(state), docker_host="")


async def end_all(state: Path) -> tuple[str, ...]:
    """
    Kill the runner that works on a state directory, if one does, and end its jobs; return the names of those.

    They begin again from nothing, so what they wrote until then goes, too.

    Raises:
        Unavailable: a process does not die.
    """
    from adapters.registry import open_containers
    from adapters.state_dir import StateDir

    if not (state / "box-id").exists():
        return ()
    opened = StateDir(str(state))
    await _kill_runner(opened)
    runtime = open_containers(config_of(state), opened, opened.box_id())["process"]
    try:
        names = await _end_jobs(runtime)
    finally:
        await runtime.close()
    await _forget_logs(opened.spool)
    return names


async def _forget_logs(spools: str) -> None:
    from adapters.spool import FileSpool

    spool = FileSpool(spools, time.time_ns)
    for key in await spool.unshed():
        if not await spool.sealed(key):
            await spool.remove(key)
    await spool.close()


async def kill_runner(state: Path) -> None:
    """
    Kill the runner that works on a state directory, if one does; its jobs go on.

    Raises:
        Unavailable: it does not die.
    """
    from adapters.state_dir import StateDir

    if (state / "box-id").exists():
        await _kill_runner(StateDir(str(state)))


async def _end_jobs(runtime: Containers) -> tuple[str, ...]:
    names = await runtime.list_ours()
    for name in names:
        await runtime.stop(name, 0.0)
        await runtime.remove(name)
    return names


async def _kill_runner(state: StateDir) -> None:
    """Kill who holds the lock: the pid that stands there is the holder's own, and nobody else's."""
    ends = asyncio.get_running_loop().time() + KILLED_WITHIN_S
    while True:
        try:
            state.lock().close()
            return
        except StateLocked:
            _kill(Path(state.path) / "lock")
        if asyncio.get_running_loop().time() > ends:
            raise Unavailable(f"the runner on {state.path} does not die; its process stands in the file lock there")
        await asyncio.sleep(PAUSE_S)


def _kill(lock: Path) -> None:
    with suppress(OSError, ValueError):
        pid = int(lock.read_text("ascii"))
        if pid > 1:
            os.kill(pid, signal.SIGKILL)
