"""
Threads for blocking calls, which nobody has to wait for when the program ends.

A call into a file server that went away can block for ever. It then holds up its thread and the calls behind it,
never the event loop, and never the end of the process: the threads are daemons and no exit handler joins them.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import ParamSpec, TypeVar

from runner.errors import Unavailable

P = ParamSpec("P")
T = TypeVar("T")

# Callers give up after their own time limits and try again, so a thread that hangs would collect calls for ever.
WAITING_MAX = 1000


class Worker(Executor):
    """
    Runs calls in order, each in the next free one of ``threads`` threads, which start as they are needed.

    With one thread, the default, calls never overlap.
    """

    def __init__(self, name: str, *, threads: int = 1) -> None:
        self._name = name
        self._threads_max = threads
        # Calls that wait for a thread, with what carries each result back; None ends a thread.
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        # Calls accepted and not yet done.
        self._under_way = 0
        self._closed = False

    @property
    def is_busy(self) -> bool:
        """Whether it accepted a call that is not done yet."""
        return self._under_way > 0

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """
        Await ``function`` run in a thread. When cancelled before its turn it is not run, else it runs to its end.

        Raises:
            Unavailable: the worker is closed, or a thousand calls wait already because one hangs.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def tell(outcome: Callable[..., None], value: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits any more
                loop.call_soon_threadsafe(_unless_cancelled, done, outcome, value)

        # Half the cost of a `concurrent.futures.Future`, whose locks nobody needs here.
        def call() -> None:
            if done.cancelled():
                return
            try:
                result = function(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - it is raised again where the result is awaited
                tell(done.set_exception, error)
            else:
                tell(done.set_result, result)

        self._accept(call)
        return await done

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = function(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - it is raised again where the result is awaited
                future.set_exception(error)
            else:
                future.set_result(result)

        self._accept(call)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - as Executor has it
        """Let the threads end after the calls that wait already, and return at once; idempotent."""
        with self._lock:
            self._closed = True
            for _ in range(self._threads):
                self._calls.put(None)

    def _accept(self, call: Callable[[], None]) -> None:
        with self._lock:
            if self._closed or self._calls.qsize() >= WAITING_MAX:
                raise Unavailable(f"{self._name}: closed" if self._closed else f"{self._name}: does not answer")
            self._under_way += 1
            if self._threads < min(self._threads_max, self._under_way):
                WorkerThread(self, self._run, self._name).start()
                self._threads += 1
            self._calls.put(call)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            with self._lock:
                self._under_way -= 1


class WorkerThread(threading.Thread):
    """One of a worker's threads, by which whoever looks at all threads finds out which of them have work."""

    def __init__(self, worker: Worker, work: Callable[[], None], name: str) -> None:
        super().__init__(target=work, name=name, daemon=True)
        self.worker = worker


def _unless_cancelled(done: asyncio.Future[T], outcome: Callable[..., None], value: object) -> None:
    if not done.cancelled():
        outcome(value)
