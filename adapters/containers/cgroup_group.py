"""One job's control group, from its recorded directories: who is in it, what it used, its end. Every call blocks."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time

from adapters.containers.cgroup_files import UNIFIED, write
from adapters.files import read_small

_FREEZE_LIMIT_S = 2.0
_EMPTY_LIMIT_S = 5.0


class Group:
    """Works on what may be gone already: a missing file reads as None or empty."""

    def __init__(self, directories: dict[str, str]) -> None:
        self._directories = directories

    def __bool__(self) -> bool:
        return bool(self._directories)

    def joining(self) -> tuple[str, ...]:
        """
        Return the files that a process of one thread writes 0 into to enter; hierarchies can be mounted together.

        In version 1 that is the file for single threads: it spares the wait for all processors, 5 to 20 ms.
        """
        files = {name: "cgroup.procs" if name == UNIFIED else "tasks" for name in self._directories}
        entered = {os.path.realpath(os.path.join(path, files[name])) for name, path in self._directories.items()}
        return tuple(sorted(entered))

    def pids(self) -> set[int]:
        """Return all processes in it."""
        for directory in self._directories.values():
            with contextlib.suppress(OSError), open(os.path.join(directory, "cgroup.procs"), "rb", buffering=0) as file:
                return set(map(int, file.read().split()))
        return set()

    def kill(self) -> None:
        """Kill everything in it at once: by the kernel where it can, else while all are frozen."""
        with contextlib.suppress(OSError, KeyError):
            write(self._directories[UNIFIED], "cgroup.kill", "1")
            return
        frozen = self._freeze()
        try:
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        finally:
            if frozen:
                self._write_state(thawed=True)

    def oom_kills(self) -> int:
        """Count the processes that the memory limit killed."""
        return self._in_table(UNIFIED, "memory.events", "oom_kill") or self._in_table(
            "memory", "memory.oom_control", "oom_kill"
        ) or 0  # fmt: skip

    def memory_bytes(self) -> int | None:
        """Return what it occupies now."""
        return self._number(UNIFIED, "memory.current") or self._number("memory", "memory.usage_in_bytes")

    def memory_peak_bytes(self) -> int | None:
        """Return the most it ever occupied."""
        return self._number(UNIFIED, "memory.peak") or self._number("memory", "memory.max_usage_in_bytes")

    def cpu_seconds(self) -> float | None:
        """Return the processor time of all its processes, also of those that ended."""
        nanoseconds = self._number("cpuacct", "cpuacct.usage")
        if nanoseconds is not None:
            return nanoseconds / 1e9
        microseconds = self._in_table(UNIFIED, "cpu.stat", "usage_usec")
        return None if microseconds is None else microseconds / 1e6

    def remove(self) -> None:
        """
        Delete its directories; no process may be left.

        Raises:
            OSError: the kernel still counts one.
        """
        give_up_at = time.monotonic() + _EMPTY_LIMIT_S
        for directory in self._directories.values():
            while not _removed(directory, patient=time.monotonic() < give_up_at):
                time.sleep(0.001)

    def _freeze(self) -> bool:
        with contextlib.suppress(OSError, KeyError):
            self._write_state(thawed=False)
            give_up_at = time.monotonic() + _FREEZE_LIMIT_S
            while not self._is_frozen() and time.monotonic() < give_up_at:
                time.sleep(0.001)
            return True
        return False

    def _write_state(self, *, thawed: bool) -> None:
        if "freezer" in self._directories:
            write(self._directories["freezer"], "freezer.state", "THAWED" if thawed else "FROZEN")
        else:
            write(self._directories[UNIFIED], "cgroup.freeze", "0" if thawed else "1")

    def _is_frozen(self) -> bool:
        if "freezer" in self._directories:
            return self._text("freezer", "freezer.state").strip() == "FROZEN"
        return self._in_table(UNIFIED, "cgroup.events", "frozen") == 1

    def _number(self, hierarchy: str, name: str) -> int | None:
        text = self._text(hierarchy, name).strip()
        return int(text) if text.isdigit() else None

    def _in_table(self, hierarchy: str, name: str, key: str) -> int | None:
        for line in self._text(hierarchy, name).splitlines():
            word, _, value = line.partition(" ")
            if word == key:
                return int(value)
        return None

    def _text(self, hierarchy: str, name: str) -> str:
        try:
            return read_small(f"{self._directories[hierarchy]}/{name}").decode("ascii")
        except (OSError, KeyError):
            return ""


def _removed(directory: str, *, patient: bool) -> bool:
    """Delete a group's directory; False, with patience, while its last process is on its way out."""
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno == errno.EBUSY and patient:
            return False
        raise
    return True
