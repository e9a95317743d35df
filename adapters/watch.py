"""
A pause that ends early when something changes in a directory.

The kernel's notices (inotify) only shorten the wait: where there are none (they are used up, or another machine wrote
to a shared file system) the caller looks again after the pause, so nothing may depend on them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import threading

# IN_MODIFY, IN_MOVED_TO and IN_CREATE of <sys/inotify.h>
_CHANGES = 0x002 | 0x080 | 0x100
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
# Without notices the caller has to look often; with them only for what other machines do.
POLL_S = 0.025
NOTICED_POLL_S = 0.25


class Watch:
    """
    Watches one directory for one thread that waits; ``wake`` is for any thread.

    ``notices=False`` does without the kernel's notices.
    """

    def __init__(self, path: str, *, notices: bool = True) -> None:
        self._path = path
        self._notices_wanted = notices
        self._lock = threading.Lock()
        self._poked = False
        self._closed = False
        # File descriptors, opened by the first wait: what `wake` rings, and the kernel's notices where there are any.
        self._bell = -1
        self._notices = -1
        self._poll = select.poll()

    def wait(self, limit_s: float) -> None:
        """Return after a change, a ``wake``, the time after which to look anyway, or ``limit_s``; may return early."""
        if self._bell < 0:
            self._open()
        pause_s = POLL_S if self._notices < 0 else NOTICED_POLL_S
        if not self._poked and not self._closed:
            for fd, _ in self._poll.poll(max(0.0, min(pause_s, limit_s)) * 1000):
                self._drain(fd)
        self._poked = False

    def wake(self) -> None:
        """End the present wait, or the next."""
        with self._lock:
            self._poked = True
            if self._bell >= 0:
                os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        """Close what is open; no wait may be in progress. Later waits return at once."""
        with self._lock:
            self._closed = True
            for fd in (self._bell, self._notices):
                if fd >= 0:
                    os.close(fd)
            self._bell = self._notices = -1

    def _open(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._poll.register(self._bell, select.POLLIN)
            self._notices = _open_notices(self._path) if self._notices_wanted else -1
            if self._notices >= 0:
                self._poll.register(self._notices, select.POLLIN)

    def _drain(self, fd: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(fd, 65536):
                pass


def _open_notices(path: str) -> int:
    """Return a descriptor that becomes readable at changes in a directory, -1 where the kernel gives none."""
    libc = ctypes.CDLL(None)
    fd = int(libc.inotify_init1(_FLAGS))
    if fd >= 0 and libc.inotify_add_watch(fd, os.fsencode(path), _CHANGES) < 0:
        os.close(fd)
        return -1
    return fd
