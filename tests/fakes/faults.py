"""Failures on purpose: a port whose calls fail, hang, or are cut off by a kill, as a seed says."""

from __future__ import annotations

import asyncio
import inspect
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable

from runner.errors import Unavailable


class Killed(BaseException):
    """The runner that made this call was killed; it never gets an answer."""


class Life:
    """One life of the runner. It ends at a port call that the seed chose, before or after the call has its effect."""

    def __init__(self, seeded: random.Random, *, fail: float, hang: float, calls_left: int | None) -> None:
        self.seeded, self.fail, self.hang = seeded, fail, hang
        self.calls_left = calls_left
        self.killed = asyncio.Event()
        self.failed: Counter[str] = Counter()
        self.hung: Counter[str] = Counter()

    def end(self) -> None:
        self.killed.set()

    async def step(self) -> None:
        """Count a call down; the one that is chosen, and all after it, never return."""
        if self.calls_left is not None and not self.killed.is_set():
            self.calls_left -= 1
            if self.calls_left <= 0:
                self.end()
        if self.killed.is_set():
            await asyncio.get_running_loop().create_future()

    async def fault(self, port: str, method: str) -> None:
        """Fail or hang, or neither."""
        dice = self.seeded.random()
        if dice < self.fail:
            self.failed[port] += 1
            raise Unavailable(f"{port}.{method} failed on purpose")
        if dice < self.fail + self.hang:
            self.hung[port] += 1
            await asyncio.sleep(10_000_000)


class Flaky:
    """Wraps a port: every coroutine and async iterator of it may fail, before or after it had its effect."""

    def __init__(self, name: str, port: object, life: Life) -> None:
        self._name, self._port, self._life = name, port, life

    def __getattr__(self, method: str) -> object:
        found = getattr(self._port, method)
        if method == "close":
            return found  # what is closed after a kill has no one who waits for it
        if inspect.iscoroutinefunction(found):
            return self._call(method, found)
        if inspect.isasyncgenfunction(found):
            return self._iterate(method, found)
        return found

    def _call(self, method: str, found: Callable[..., object]) -> Callable[..., object]:
        async def call(*args: object, **kwargs: object) -> object:
            before = self._life.seeded.random() < 0.5
            await self._life.step()
            if before:
                await self._life.fault(self._name, method)
            result = await found(*args, **kwargs)  # type: ignore[misc]
            await self._life.step()
            if not before:
                await self._life.fault(self._name, method)
            return result

        return call

    def _iterate(self, method: str, found: Callable[..., AsyncIterator[object]]) -> Callable[..., object]:
        async def iterate(*args: object, **kwargs: object) -> AsyncIterator[object]:
            await self._life.step()
            async for item in found(*args, **kwargs):
                await self._life.fault(self._name, method)
                await self._life.step()
                yield item
                await self._life.step()

        return iterate
