"""
A thread for a library that may block for ever inside a driver: one call at a time, each bounded for its caller.

A call that is late goes on in its thread, since nothing can end it; until it is done, further calls fail at once. The
thread never keeps the process from ending.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from runner.errors import Unavailable

T = TypeVar("T")


class DeviceThread:
    """Runs calls in the order in which they come."""

    def __init__(self, name: str, limit_s: float) -> None:
        self._name = name
        self._limit_s = limit_s
        # None ends the thread.
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        # The call that was late last; while it is not done, the library is stuck.
        self._late: Future[Any] | None = None

    async def call(self, work: Callable[[], T]) -> T:
        """
        Run ``work`` in the thread.

        Raises:
            Unavailable: it was not done in time, or an earlier call is still stuck.
        """
        if self._late is not None and not self._late.done():
            raise Unavailable(f"{self._name} is stuck in an earlier call; only a reset or reboot may help")
        future: Future[T] = Future()
        self._start()
        self._calls.put((work, future))
        try:
            async with asyncio.timeout(self._limit_s):
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            self._late = future
            raise Unavailable(f"{self._name} did not answer within {self._limit_s:g} s") from error

    async def close(self, last: Callable[[], object]) -> None:
        """Run ``last`` unless the thread is stuck, and end it."""
        if self._thread is None:
            return
        try:
            await self.call(last)
        except Unavailable:
            pass
        else:
            self._calls.put(None)
            self._thread.join(self._limit_s)
        self._thread = None

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            self._thread.start()

    def _serve(self) -> None:
        while (item := self._calls.get()) is not None:
            work, future = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except Exception as error:  # noqa: BLE001 - it is raised where the call was made
                future.set_exception(error)
