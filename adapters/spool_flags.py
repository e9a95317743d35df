"""Wakes whoever waits for more of a log in this process."""

from __future__ import annotations

import asyncio

from runner.job import Key

SETTLING_S = 0.05
REMEMBERED_MAX = 1024


class Flags:
    """
    One flag a key: it is raised, and everybody who waited goes on.

    A reader that found nothing and then waits may miss what was raised between the two. So whoever begins to wait
    within 50 ms of a raise is woken once more when those are over: too often does no harm, never would.
    """

    def __init__(self) -> None:
        self._waiters: dict[Key, set[asyncio.Future[None]]] = {}
        # When each key was raised last, by the loop's clock; the oldest are forgotten.
        self._raised_s: dict[Key, float] = {}
        # Keys raised since somebody last asked for news, and whoever asks now.
        self._news: set[Key] = set()
        self._reporter: asyncio.Future[None] | None = None

    def raise_(self, key: Key) -> None:
        """Wake all who wait for this key."""
        self._raised_s.pop(key, None)
        self._raised_s[key] = asyncio.get_running_loop().time()
        if len(self._raised_s) > REMEMBERED_MAX:
            del self._raised_s[next(iter(self._raised_s))]
        self._news.add(key)
        if self._reporter is not None:
            _wake(self._reporter)
        for waiter in self._waiters.pop(key, ()):
            _wake(waiter)

    async def news(self) -> frozenset[Key]:
        """Return what was raised since the last call, waiting for the first; a cancelled call takes nothing."""
        while not self._news:
            self._reporter = asyncio.get_running_loop().create_future()
            try:
                await self._reporter
            finally:
                self._reporter = None
        news, self._news = frozenset(self._news), set()
        return news

    async def wait(self, key: Key) -> None:
        """Return after the next raise, or once more shortly after the last one."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        beside = self._waiters.setdefault(key, set())
        beside.add(waiter)
        settled_s = self._raised_s.get(key, -SETTLING_S) + SETTLING_S
        timer = loop.call_at(settled_s, _wake, waiter) if settled_s > loop.time() else None
        try:
            await waiter
        finally:
            if timer is not None:
                timer.cancel()
            beside.discard(waiter)
            if not beside and self._waiters.get(key) is beside:
                del self._waiters[key]

    def forget(self, key: Key) -> None:
        """Drop what is known of a key, waking whoever still waits for it."""
        self._raised_s.pop(key, None)
        self._news.discard(key)
        for waiter in self._waiters.pop(key, ()):
            _wake(waiter)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
