"""
All processes of one job, and their end.

Found by control group where there is one, else by the user that only this job has, else by session, descent and
the deadline file in their environment. The starter that waits for the job is not one of them. Every function blocks.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator

from adapters.containers.cgroup_group import Group
from adapters.containers.command import DEADLINE_VARIABLE
from adapters.containers.control import Control, Pids, Record
from adapters.containers.processes import Process, all_pids, environment, is_live_of, live_processes
from adapters.containers.uids import Uids
from runner.receipt import Usage

KILL_LIMIT_S = 10.0
_FIRST_PAUSE_S = 0.0005
_LAST_PAUSE_S = 0.05


class Tree:
    """The processes of a container; works on what ended long ago too."""

    def __init__(self, control: Control, record: Record, uids: Uids | None) -> None:
        self._control = control
        self._wrapped = record.wrapped
        self._group = Group(record.groups)
        # None where the number was given back, or taken by another job after a reboot.
        self._uid = record.uid if record.uid is not None and uids and uids.holds(record.uid, control.path) else None
        self._uids = uids

    def pids(self) -> set[int]:
        """Return every live process."""
        if self._group:
            return self._group.pids()
        if self._uid is not None:
            return {pid for pid in all_pids() if is_live_of(pid, self._uid)}
        return set(self._related())

    def terminate(self) -> None:
        """Ask every process of the job to end; a wrapper would end them at once instead of passing that on."""
        pids = self._control.pids()
        wrapper = {pids.job} if pids and self._wrapped else set()
        self._signal(self.pids() - wrapper, signal.SIGTERM)

    def used(self) -> Usage:
        """Sample what it occupies now, and the processor time of what lives and what that waited for."""
        if self._group:
            return Usage(memory_peak=self._group.memory_bytes(), cpu_seconds=self._group.cpu_seconds())
        everybody = live_processes()
        ours = [everybody[pid] for pid in self.pids() if pid in everybody]
        return Usage(
            memory_peak=sum(process.memory_bytes for process in ours),
            cpu_seconds=sum(process.cpu_seconds for process in ours),
        )

    def kill(self) -> bool:
        """Kill until nothing is left; False where something would not die in time, as in an uninterruptible call."""
        give_up_at = time.monotonic() + KILL_LIMIT_S
        pause_s = _FIRST_PAUSE_S
        found = seen = self.pids()
        while found or seen:
            if time.monotonic() > give_up_at:
                return False
            self._kill_once(found)
            time.sleep(pause_s)
            pause_s = min(_LAST_PAUSE_S, pause_s * 2)
            # Empty twice: a child can hide behind its dying parent from one look through /proc.
            seen, found = found, self.pids()
        return True

    def _kill_once(self, pids: set[int]) -> None:
        if self._group:
            self._group.kill()
        elif self._uid is not None and self._uids:
            self._uids.kill_all(self._uid)
        else:
            self._signal(pids, signal.SIGKILL)

    def _signal(self, pids: set[int], number: signal.Signals) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def _related(self) -> Iterator[int]:
        everybody = live_processes()
        # Without its starter the numbers in the pid file may be somebody else's by now, and only the marker is sure.
        pids = self._control.pids() if self._control.is_alive() else None
        marker = os.fsencode(f"{DEADLINE_VARIABLE}={self._control.deadline}")
        for process in everybody.values():
            if (pids and _is_family(process, pids, everybody)) or marker in environment(process.pid):
                yield process.pid


def _is_family(process: Process, pids: Pids, everybody: dict[int, Process]) -> bool:
    """Tell whether a process is in the job's session or descends from its starter."""
    if process.pid == pids.starter:
        return False
    if process.session == pids.job:
        return True
    above: Process | None = process
    while above is not None:
        if above.parent == pids.starter:
            return True
        above = everybody.get(above.parent)
    return False
