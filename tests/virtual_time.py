"""
An event loop whose clock jumps to the next timer as soon as nothing is left to do, for tests with hours of timers.

Work given to threads by `asyncio.to_thread`, `run_in_executor` and workers is waited for in real time, and the clock
stands still meanwhile. What else comes from outside (sockets, pipes, threads of somebody's own) is seen as soon as it
is there, but is waited for only when no timer could go off instead. Real waiting is bounded by `REAL_LIMIT_S`.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar

from adapters.worker import WorkerThread

T = TypeVar("T")
REAL_LIMIT_S = 30.0
LOOK_AGAIN_S = 0.000_1
WEEK_S = 7 * 86_400.0


class VirtualDeadlock(Exception):
    """Nothing is ready, no timer is set and nobody outside works: the program under test would hang for ever."""


class VirtualTimeout(Exception):
    """The clock passed the limit: timers keep the program under test busy, but it does not end."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Starts at 0 s. `limit_s` bounds the virtual time that a program may take."""

    def __init__(self, limit_s: float = WEEK_S) -> None:
        self._selecting = _JumpingSelector(limit_s)
        super().__init__(self._selecting)
        self._selecting.own_files = len(self._selecting.get_map())
        self._selecting.loop = self
        # Timers this close count as due, since adding to a float may fall short of the sum that was meant.
        self._clock_resolution = 1e-6
        # What the loop was told of errors that nobody handled.
        self.complaints: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.complaints.append(context))

    def time(self) -> float:
        return self._selecting.now_s

    def run_in_executor(self, executor: Executor | None, func: Callable[..., T], *args: object) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self._selecting.threads += 1
        future.add_done_callback(self._thread_ended)
        return future

    async def shutdown_default_executor(self, *args: float | None) -> None:
        self._selecting.threads += 1
        try:
            await super().shutdown_default_executor(*args)
        finally:
            self._thread_ended()

    def _thread_ended(self, *_: object) -> None:
        self._selecting.threads -= 1


class _JumpingSelector(selectors.DefaultSelector):
    """Advances `now_s` instead of waiting."""

    def __init__(self, limit_s: float) -> None:
        super().__init__()
        self.now_s = 0.0
        self.limit_s = limit_s
        # Calls in threads that are known to come back.
        self.threads = 0
        # How many files the loop watches for itself; more are somebody's sockets and pipes.
        self.own_files = 0
        self.loop: asyncio.AbstractEventLoop | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        busy = _workers_are_busy()  # asked first: what they did before they were idle is ready below
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if busy:
            return self._wait_for_workers()
        if self.threads or (timeout is None and self._outsiders()):
            return self._wait_really()
        if timeout is None:
            raise VirtualDeadlock(self._describe("nothing is ready and no timer is set"))
        self.now_s += max(timeout, 0.0)
        if self.now_s > self.limit_s:
            self.limit_s = float("inf")  # what is cancelled now may still need time to clean up
            raise VirtualTimeout(self._describe("still busy"))
        return ready

    def _outsiders(self) -> bool:
        return len(self.get_map()) > self.own_files or threading.active_count() > 1

    def _wait_really(self) -> list[tuple[selectors.SelectorKey, int]]:
        if ready := super().select(REAL_LIMIT_S):
            return ready
        raise VirtualDeadlock(self._describe(f"no sign from a thread or file for {REAL_LIMIT_S:.0f} real seconds"))

    def _wait_for_workers(self) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for a sign, or until none of them has work: the sign came before that, and is seen at the next turn."""
        for _ in range(int(REAL_LIMIT_S / LOOK_AGAIN_S)):
            if (ready := super().select(0)) or not _workers_are_busy():
                return ready
            threading.Event().wait(LOOK_AGAIN_S)
        raise VirtualDeadlock(self._describe(f"no sign from a worker for {REAL_LIMIT_S:.0f} real seconds"))

    def _describe(self, what: str) -> str:
        lines = [f"{what} at {self.now_s:.3f} s; tasks that wait:"]
        for task in sorted(asyncio.all_tasks(self.loop), key=asyncio.Task.get_name):
            frames = task.get_stack(limit=1)
            where = f"{frames[-1].f_code.co_filename}:{frames[-1].f_lineno}" if frames else "not started"
            lines.append(f"  {task.get_name()} at {where}")
        return "\n".join(lines)


def _workers_are_busy() -> bool:
    return any(isinstance(thread, WorkerThread) and thread.worker.is_busy for thread in threading.enumerate())


def run_virtual(main: Coroutine[Any, Any, T], *, limit_s: float = WEEK_S) -> T:
    """
    Run a coroutine to its end in virtual time.

    Raises:
        VirtualDeadlock: nothing could ever happen again.
        VirtualTimeout: it took more than `limit_s` of virtual time.
        AssertionError: it ended well, but the loop was told of errors that nobody handled.
    """
    loop = VirtualTimeLoop(limit_s)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        result = runner.run(main)
    if loop.complaints:
        text = f"errors that nobody handled: {loop.complaints}"
        raise AssertionError(text) from loop.complaints[0].get("exception")
    return result
