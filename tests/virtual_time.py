"""
An event loop whose clock jumps to the next timer as soon as nothing is left to do, for tests with hours of timers.

Work in threads (`asyncio.to_thread`, `run_in_executor`) is waited for in real time, at most `THREAD_LIMIT_S`, and the
clock stands still meanwhile. Sockets and pipes are polled, but never waited for while a timer could go off instead.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from concurrent.futures import Executor

T = TypeVar("T")
THREAD_LIMIT_S = 30.0
WEEK_S = 7 * 86_400.0


class VirtualDeadlock(Exception):
    """Nothing is ready, no timer is set and no thread works: the program under test would hang for ever."""


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
        self.complaints: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.complaints.append(context))

    def time(self) -> float:
        return self._selecting.now_s

    def run_in_executor(self, executor: Executor | None, func: Callable[..., T], *args: object) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self._selecting.threads += 1
        future.add_done_callback(self._selecting.thread_ended)
        return future

    async def shutdown_default_executor(self, *args: float | None) -> None:
        self._selecting.threads += 1
        try:
            await super().shutdown_default_executor(*args)
        finally:
            self._selecting.threads -= 1


class _JumpingSelector(selectors.DefaultSelector):
    """Advances `now_s` instead of waiting."""

    def __init__(self, limit_s: float) -> None:
        super().__init__()
        self.now_s = 0.0
        self.limit_s = limit_s
        self.threads = 0
        self.own_files = 0
        self.loop: asyncio.AbstractEventLoop | None = None

    def thread_ended(self, _: object) -> None:
        self.threads -= 1

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if self.threads or (timeout is None and len(self.get_map()) > self.own_files):
            return self._wait_really()
        if timeout is None:
            raise VirtualDeadlock(self._describe("nothing is ready and no timer is set"))
        self.now_s += max(timeout, 0.0)
        if self.now_s > self.limit_s:
            self.limit_s = float("inf")
            raise VirtualTimeout(self._describe(f"still running after {self.now_s:.0f} virtual seconds"))
        return ready

    def _wait_really(self) -> list[tuple[selectors.SelectorKey, int]]:
        if ready := super().select(THREAD_LIMIT_S):
            return ready
        raise VirtualDeadlock(self._describe(f"a thread or file gave no sign for {THREAD_LIMIT_S} real seconds"))

    def _describe(self, what: str) -> str:
        lines = [f"{what} at {self.now_s:.3f} s; tasks that wait:"]
        for task in sorted(asyncio.all_tasks(self.loop), key=asyncio.Task.get_name):
            frames = task.get_stack(limit=1)
            where = f"{frames[-1].f_code.co_filename}:{frames[-1].f_lineno}" if frames else "not started"
            lines.append(f"  {task.get_name()} at {where}")
        return "\n".join(lines)


def run_virtual(main: Coroutine[Any, Any, T], *, limit_s: float = WEEK_S) -> T:
    """
    Run a coroutine to its end in virtual time.

    Raises:
        VirtualDeadlock: nothing could ever happen again.
        VirtualTimeout: it took more than `limit_s` of virtual time.
        AssertionError: it ended well, but the loop was told of errors that nobody handled.
    """
    loops: list[VirtualTimeLoop] = []

    def make_loop() -> VirtualTimeLoop:
        loops.append(VirtualTimeLoop(limit_s))
        return loops[-1]

    with asyncio.Runner(loop_factory=make_loop) as runner:
        result = runner.run(main)
    complaints: list[Mapping[str, Any]] = [context for loop in loops for context in loop.complaints]
    if complaints:
        text = f"errors that nobody handled: {complaints}"
        raise AssertionError(text) from complaints[0].get("exception")
    return result
