"""
Long blocking work (copying, hashing, unpacking) in a thread of its own that ends when its caller is cancelled.

A cancelled call must not go on writing into a workspace that is being deleted: the work looks at its stop between
blocks, and the caller waits for that, for a bounded time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

from adapters.worker import Worker

T = TypeVar("T")
STOP_WITHIN_S = 10.0
"""One block takes milliseconds; only a file server that hangs takes longer, and nobody waits for that one."""


class Interrupted(Exception):
    """The caller was cancelled; nobody sees this one."""


class Stop:
    """What the work looks at between blocks."""

    def __init__(self) -> None:
        self._set = threading.Event()

    def set(self) -> None:
        """Ask the work to end."""
        self._set.set()

    def check(self) -> None:
        """
        Return while the work is wanted.

        Raises:
            Interrupted: it is not any more.
        """
        if self._set.is_set():
            raise Interrupted


async def interruptibly(name: str, work: Callable[[Stop], T]) -> T:
    """Await ``work``, run in a daemon thread of this name; when cancelled, first let it come to its next look."""
    stop, worker = Stop(), Worker(name)
    running = asyncio.get_running_loop().run_in_executor(worker, work, stop)
    worker.shutdown()
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        running.add_done_callback(_look_away)
        await asyncio.wait({running}, timeout=STOP_WITHIN_S)
        raise


def _look_away(running: asyncio.Future[T]) -> None:
    """Take the result of work that nobody awaits any more, or the loop would report it."""
    if not running.cancelled():
        running.exception()
