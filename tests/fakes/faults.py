"""Failures on purpose: a port whose calls fail, hang, or are cut off by a kill, as a seed says."""

from __future__ import annotations

import asyncio
import inspect
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

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
        # Calls by ``port.method``, an iterator's items among them.
        self.calls: Counter[str] = Counter()

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


Trouble = Callable[..., Awaitable[None]]
"""Awaited with a call's arguments before the call has its effect; it may raise, or never end."""


def raises(error: Exception, *, times: int | None = None) -> Trouble:
    """Return the trouble of a call that fails like this, for ever or so many times."""
    left = iter(range(times)) if times is not None else None

    async def trouble(*_args: Any, **_kwargs: Any) -> None:
        if left is None or next(left, None) is not None:
            raise error

    return trouble


async def hangs(*_args: Any, **_kwargs: Any) -> None:
    """Is the trouble of a call that never ends."""
    await asyncio.sleep(10_000_000)


class Flaky:
    """
    Wraps a port: every coroutine and async iterator of it may fail, before or after it had its effect.

    ``troubles`` are failures that a test arranged, by ``port.method``; an iterator meets its own before every item.
    """

    def __init__(self, name: str, port: object, life: Life, troubles: Mapping[str, Trouble]) -> None:
        self._name, self._port, self._life, self._troubles = name, port, life, troubles

    def __getattr__(self, method: str) -> object:
        found = getattr(self._port, method)
        if method in {"close", "release"}:
            return found  # what is closed after a kill has no one who waits for it
        if inspect.iscoroutinefunction(found):
            return self._call(method, found)
        if inspect.isasyncgenfunction(found):
            return self._iterate(method, found)
        return found

    def _call(self, method: str, found: Callable[..., object]) -> Callable[..., object]:
        async def call(*args: object, **kwargs: object) -> object:
            self._life.calls[f"{self._name}.{method}"] += 1
            before = self._life.seeded.random() < 0.5
            await self._life.step()
            await self._meet_trouble(method, *args, **kwargs)
            if before:
                await self._life.fault(self._name, method)
            result = await found(*args, **kwargs)  # type: ignore[misc]
            try:
                await self._life.step()
                if not before:
                    await self._life.fault(self._name, method)
            except BaseException:
                await _close(result)  # what was opened, and its caller never sees
                raise
            return result

        return call

    async def _meet_trouble(self, method: str, *args: object, **kwargs: object) -> None:
        trouble = self._troubles.get(f"{self._name}.{method}")
        if trouble is not None:
            await trouble(*args, **kwargs)

    def _iterate(self, method: str, found: Callable[..., AsyncIterator[object]]) -> Callable[..., object]:
        async def iterate(*args: object, **kwargs: object) -> AsyncIterator[object]:
            await self._life.step()
            async for item in found(*args, **kwargs):
                self._life.calls[f"{self._name}.{method}"] += 1
                await self._meet_trouble(method, *args, **kwargs)
                await self._life.fault(self._name, method)
                await self._life.step()
                yield item
                await self._life.step()

        return iterate


async def _close(result: object) -> None:
    close = getattr(result, "close", None)
    if close is not None:
        await close()
