"""Learns of ends by pidfd, whoever the parent is, and says how a container ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource

from adapters.containers.cgroup_group import Group
from adapters.containers.control import Control, Record
from runner.ports import Exit
from runner.receipt import Usage

_CLAIM_PAUSE_S = 0.01
_TICK_S = 0.01  # files get the time of the last tick; the slowest kernels have a hundred a second
_WHOLE_S = 1.0  # ext4 with small inodes, among others, keeps whole seconds only


class Exits:
    """Watches starters; a child is reaped as it ends, also where nobody waits for it."""

    def __init__(self) -> None:
        # Done once the container of this name ended; watched from its start, or from the first question about it.
        self._ended: dict[str, asyncio.Future[None]] = {}
        # Open pidfds by name.
        self._pidfds: dict[str, int] = {}
        # What our own children used; nobody can tell for those of an earlier life.
        self._resources: dict[str, resource.struct_rusage] = {}
        # Looks again soon, for starters between their lock and their claim.
        self._looking: dict[str, asyncio.TimerHandle] = {}
        # Whose starter is this process's child, and not yet reaped.
        self._children: set[str] = set()

    def add_child(self, name: str) -> None:
        """Note that a container's starter is this process's child; from any thread."""
        self._children.add(name)

    def watch(self, control: Control) -> asyncio.Future[None]:
        """Return a future that is done once the container's starter is gone; never cancel it."""
        name = control.name
        if name in self._ended:
            return self._ended[name]
        ended = self._ended[name] = asyncio.get_running_loop().create_future()
        self._look(control)
        if ended.done() and control.pids() is None:
            # Nothing was started yet; the next question looks again.
            del self._ended[name]
        return ended

    def resources(self, name: str) -> resource.struct_rusage | None:
        """Return what the processes used, where the container was started in this life of the runner."""
        return self._resources.get(name)

    def forget(self, name: str) -> None:
        """Watch no longer; whoever still waits is let go."""
        self._done(name)
        self._ended.pop(name, None)
        self._resources.pop(name, None)
        self._children.discard(name)

    def close(self) -> None:
        """Watch nothing any more. Waiting callers wait on until they are cancelled."""
        for name in list(self._pidfds):
            self._unwatch(name)
        for timer in self._looking.values():
            timer.cancel()
        self._looking.clear()

    def _look(self, control: Control) -> None:
        name = control.name
        self._looking.pop(name, None)
        pids = control.pids()
        loop = asyncio.get_running_loop()
        if pids is not None and pids.starter and self._open(name, pids.starter):
            # The lock is asked about after the pidfd is open: held, it proves that the pid was not reused.
            if control.is_alive():
                loop.add_reader(self._pidfds[name], self._exited, name, pids.starter)
                return
            self._exited(name, pids.starter)
        elif control.is_alive():
            # Between its lock and its claim.
            self._looking[name] = loop.call_later(_CLAIM_PAUSE_S, self._look, control)
        else:
            self._done(name)

    def _open(self, name: str, pid: int) -> bool:
        try:
            self._pidfds[name] = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        return True

    def _exited(self, name: str, pid: int) -> None:
        if name in self._children:
            self._children.discard(name)
            with contextlib.suppress(ChildProcessError):
                _, _, self._resources[name] = os.wait4(pid, 0)  # it has exited, so this returns at once
        self._done(name)

    def _done(self, name: str) -> None:
        self._unwatch(name)
        ended = self._ended.get(name)
        if ended is not None and not ended.done():
            ended.set_result(None)

    def _unwatch(self, name: str) -> None:
        descriptor = self._pidfds.pop(name, None)
        if descriptor is not None:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)
        if name in self._looking:
            self._looking.pop(name).cancel()


class Ending:
    """How one container ended, from what it left."""

    def __init__(self, control: Control, record: Record, used: resource.struct_rusage | None) -> None:
        self._control = control
        self._started_at = record.started_at
        self._group = Group(record.groups)
        # A wrapper does not wait for the job's processes, so that it is not charged with what they used.
        self._used = None if record.wrapped else used

    def exit(self, now: float) -> Exit:
        """Return the port's answer; the same at every call, but for ``ended_at`` of what nobody saw end."""
        code = self._control.exit_code()
        steps = self._control.step_codes()
        pids = self._control.pids()
        if code is None:
            not_started = pids is None or pids.job is None
            message = _unknown(not_started=not_started)
            return Exit(None, now, not_started=not_started, message=message, usage=self._usage(), steps=steps)
        oom = self._group.oom_kills() > 0
        ended_at, coarse_s = self._ended_at() or (now, 0.0)
        return Exit(code, ended_at, coarse_s=coarse_s, oom=oom, usage=self._usage(), steps=steps)

    def _ended_at(self) -> tuple[float, float] | None:
        """Return when the exit code was written, and by how much a file's clock can lag, also behind the start."""
        written_at = self._control.ended_at()
        if written_at is None:
            return None
        return max(written_at, self._started_at), _WHOLE_S if written_at.is_integer() else _TICK_S

    def _usage(self) -> Usage:
        seconds = self._group.cpu_seconds()
        if seconds is None and self._used is not None:
            seconds = self._used.ru_utime + self._used.ru_stime
        return Usage(memory_peak=self._group.memory_peak_bytes(), cpu_seconds=seconds)


def _unknown(*, not_started: bool) -> str:
    if not_started:
        return "its starter was killed before the command began, or the box went down"
    return "its starter was killed before it could note the exit code, or the box went down; what was left was ended"
