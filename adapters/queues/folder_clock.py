"""
The clock that leases and delays go by: the one of the file system that holds the queue.

All boxes that share a folder see the same times on its files, whatever their own clocks say, so a box whose clock is
wrong neither steals claims nor wakes retries early.
"""

from __future__ import annotations

import os
import time
from typing import Protocol

PROBE_EVERY_S = 5.0


class QueueClock(Protocol):
    """Gives the time that all readers of one queue agree on."""

    def now(self) -> float:
        """Return epoch seconds; may touch the disk, so call it from a thread."""
        ...


class FileSystemClock:
    """
    Touches a file of its own at most every 5 s, reads what time the file system gave it, and counts on from there.

    In between it counts time spent asleep too, so a box that wakes up knows that its leases lapsed.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        # The file system's time minus this machine's uptime, and the uptime at which that was seen.
        self._offset_s = 0.0
        self._probed_at = float("-inf")

    def now(self) -> float:
        uptime_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        if uptime_s - self._probed_at >= PROBE_EVERY_S:
            self._offset_s = self._probe() - uptime_s
            self._probed_at = uptime_s
        return uptime_s + self._offset_s

    def _probe(self) -> float:
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.utime(fd)
            return os.fstat(fd).st_mtime_ns / 1e9
        finally:
            os.close(fd)
