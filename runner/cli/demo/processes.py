"""A job's first process: which one it is, and whether it is still the same one. Blocking, for a moment."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec

from adapters.containers.control import Control

_START_TICKS = 19  # starttime is field 22, and what stands behind the name begins with field 3
_GONE = frozenset({"Z", "X"})


class Process(msgspec.Struct, frozen=True):
    """A process: a pid may be given again, a pid with the same start may not."""

    pid: int
    start_ticks: int

    @property
    def started_at(self) -> float:
        """Epoch seconds of the end of the clock tick in which it was started."""
        booted_at = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        return booted_at + (self.start_ticks + 1) / os.sysconf("SC_CLK_TCK")

    def is_alive(self) -> bool:
        """Tell whether this very process still runs."""
        return find_process(self.pid) == self


def find_process(pid: int) -> Process | None:
    """Return the process of this number; None where there is none, or it has ended."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if told[0] in _GONE else Process(pid, int(told[_START_TICKS]))


def process_of(state: Path, container: str) -> Process | None:
    """Return a container's first process; None where it has none yet, or it has ended."""
    pids = Control(str(state.resolve() / "process"), container).pids()
    return find_process(pids.job) if pids and pids.job else None
