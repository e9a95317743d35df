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
from adapters.containers.uids import Uids
from runner.receipt import Usage

KILL_LIMIT_S = 10.0


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
        return set(self._owned() if self._uid is not None else self._related())

    def terminate(self) -> None:
        """Ask every process of the job to end; a wrapper would end them at once instead of passing that on."""
        pids = self._control.pids()
        wrapper = {pids.job} if pids and self._wrapped else set()
        self._signal(self.pids() - wrapper, signal.SIGTERM)

    def used(self) -> Usage:
        """Sample what it occupies now, and the processor time of what lives and what that waited for."""
        pids = () if self._group else self.pids()
        seconds = self._group.cpu_seconds() if self._group else sum(map(_cpu_seconds, pids))
        memory = self._group.memory_bytes() if self._group else sum(map(_memory_bytes, pids))
        return Usage(memory_peak=memory, cpu_seconds=seconds)

    def kill(self) -> bool:
        """Kill until nothing is left; False where something would not die in time, as in an uninterruptible call."""
        give_up_at = time.monotonic() + KILL_LIMIT_S
        pause_s = 0.0005
        while self.pids():
            if time.monotonic() > give_up_at:
                return False
            self._kill_once()
            time.sleep(pause_s)
            pause_s = min(0.05, pause_s * 2)
        return True

    def _kill_once(self) -> None:
        if self._group:
            self._group.kill()
        elif self._uid is not None and self._uids:
            self._uids.kill_all(self._uid)
        else:
            self._signal(self.pids(), signal.SIGKILL)

    def _signal(self, pids: set[int], number: signal.Signals) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def _owned(self) -> Iterator[int]:
        for pid in _all_pids():
            if _uid_of(pid) == self._uid and _is_live(pid):
                yield pid

    def _related(self) -> Iterator[int]:
        # Without its starter the numbers in the pid file may be somebody else's by now, and only the marker is sure.
        pids = self._control.pids() if self._control.is_alive() else None
        marker = os.fsencode(f"{DEADLINE_VARIABLE}={self._control.deadline}")
        family = _Family(pids)
        for pid in _all_pids():
            if _is_live(pid) and (family.has(pid) or marker in _environment(pid)):
                yield pid


class _Family:
    """Whether a process is in the job's session or descends from its starter, by one reading of /proc."""

    def __init__(self, pids: Pids | None) -> None:
        self._session = pids.job if pids else None
        self._starter = pids.starter if pids else None
        self._stats = {pid: stat for pid in _all_pids() if (stat := _stat(pid))}

    def has(self, pid: int) -> bool:
        if self._starter is None or pid == self._starter or pid not in self._stats:
            return False
        if self._stats[pid][2] == self._session:
            return True
        ancestor = pid
        while ancestor in self._stats and ancestor > 1:
            ancestor = self._stats[ancestor][1]
            if ancestor == self._starter:
                return True
        return False


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _stat(pid: int) -> tuple[str, int, int] | None:
    """Return state, parent and session."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        state, parent, _group, session = file.read().rpartition(")")[2].split()[:4]
        return state, int(parent), int(session)
    return None


def _is_live(pid: int) -> bool:
    stat = _stat(pid)
    return stat is not None and stat[0] not in "ZX"


def _cpu_seconds(pid: int) -> float:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return sum(map(int, file.read().rpartition(")")[2].split()[11:15])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _memory_bytes(pid: int) -> int:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _uid_of(pid: int) -> int | None:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("Uid:"):
                return int(line.split()[1])
    return None


def _environment(pid: int) -> list[bytes]:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
        return file.read().split(b"\0")
    return []
