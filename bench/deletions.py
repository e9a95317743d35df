"""Tells when names disappear from a directory, by the kernel's own notices, without looking into it."""

from __future__ import annotations

import asyncio
import ctypes
import os

_IN_DELETE = 0x200  # of <sys/inotify.h>
_EVENT_BYTES = 16  # wd, mask, cookie, length of the name that follows
_READ_BYTES = 65_536


class Deletions:
    """Counts the names that were deleted from one directory since it was opened."""

    def __init__(self, path: str) -> None:
        libc = ctypes.CDLL(None)
        self._descriptor = int(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        assert libc.inotify_add_watch(self._descriptor, os.fsencode(path), _IN_DELETE) >= 0, path
        asyncio.get_running_loop().add_reader(self._descriptor, self._count)
        self.seen = 0
        self._more = asyncio.Event()

    async def until(self, count: int, limit_s: float) -> None:
        """Return once so many were seen altogether; raises ``TimeoutError``."""
        async with asyncio.timeout(limit_s):
            while self.seen < count:
                self._more.clear()
                await self._more.wait()

    def close(self) -> None:
        """Watch no longer."""
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _count(self) -> None:
        events = os.read(self._descriptor, _READ_BYTES)
        at = 0
        while at < len(events):
            at += _EVENT_BYTES + int.from_bytes(events[at + 12 : at + 16], "little")
            self.seen += 1
        self._more.set()
