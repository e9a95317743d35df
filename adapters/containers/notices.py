"""
The kernel's notices (inotify) that a file was written to, for any number of files, without a thread.

Each is asked for anew, and only by who found nothing to read: a job that prints all the time causes none.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

# IN_MODIFY and IN_ONESHOT of <sys/inotify.h>
_ONCE_WRITTEN = 0x002 | 0x80000000
_EVENT = struct.Struct("iIII")


@dataclass
class Change:
    """What is waited for: ``written`` is done at the first change; ``is_sure``: every file is watched."""

    written: asyncio.Future[None]
    is_sure: bool
    watches: list[int] = field(default_factory=list)


class Notices:
    """One descriptor for all files of this process; used by one event loop."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = -1
        self._loop: asyncio.AbstractEventLoop | None = None
        # Who waits, by the kernel's number of the watch.
        self._waiting: dict[int, asyncio.Future[None]] = {}

    @contextlib.contextmanager
    def of(self, paths: Sequence[str]) -> Iterator[Change]:
        """Watch some files for as long as this lasts; look at them once more after it began."""
        written = self._opened().create_future()
        watches = [self._watch(path) for path in paths]
        change = Change(written, all(watch >= 0 for watch in watches), [watch for watch in watches if watch >= 0])
        self._waiting.update(dict.fromkeys(change.watches, written))
        try:
            yield change
        finally:
            for watch in change.watches:
                if self._waiting.get(watch) is written:
                    del self._waiting[watch]
                    self._libc.inotify_rm_watch(self._descriptor, watch)

    def close(self) -> None:
        """Close the descriptor; idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(descriptor)
            os.close(descriptor)

    def _opened(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self.close()
            self._loop = loop
            self._descriptor = int(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
            if self._descriptor >= 0:
                loop.add_reader(self._descriptor, self._read)
        return loop

    def _watch(self, path: str) -> int:
        if self._descriptor < 0:
            return -1
        return int(self._libc.inotify_add_watch(self._descriptor, os.fsencode(path), _ONCE_WRITTEN))

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            data, at = os.read(self._descriptor, 65536), 0
            while at < len(data):
                watch, _, _, name_size = _EVENT.unpack_from(data, at)
                at += _EVENT.size + name_size
                written = self._waiting.pop(watch, None)
                if written is not None and not written.done():
                    written.set_result(None)
