"""On which cores the runner itself runs: away from those of a job that is to be alone. Never a job's own cores."""

from __future__ import annotations

import contextlib
import os


class OwnCores:
    """All threads of this process; where the system refuses, they stay where they are."""

    def __init__(self) -> None:
        """Begin where this process is; that is where it returns to."""
        self._all = frozenset(os.sched_getaffinity(0))

    def keep_off(self, cores: tuple[int, ...]) -> None:
        """
        Move all threads to the other cores, or back to all where none would be left.

        Microseconds a thread; one that begins meanwhile is moved too, since it begins where its parent is.
        """
        wanted = self._all.difference(cores) or self._all
        moved: set[str] = set()
        while new := set(os.listdir("/proc/self/task")) - moved:
            for thread in new:
                with contextlib.suppress(OSError):  # it ended, or may not be moved
                    os.sched_setaffinity(int(thread), wanted)
            moved |= new
