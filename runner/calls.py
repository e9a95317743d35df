"""
One way to call a port: a time limit on each try, back-off with jitter between tries, a limit on all of them.

Ports never retry by themselves, so this is the only place where the waiting grows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from runner.errors import RunnerError, Unavailable

T = TypeVar("T")
logger = logging.getLogger(__name__)

QUIET_S = 1.0
"""Whoever is away for less is not worth a line."""


class Patience(msgspec.Struct, frozen=True):
    """Seconds: of one try, of all tries together, between the first two tries, and at most between any two."""

    try_s: float = 60.0
    all_s: float = float("inf")
    first_s: float = 0.1
    most_s: float = 15.0

    def until(self, ends: float | None) -> Patience:
        """Return as much of it as is left until then, in loop seconds; None: all."""
        if ends is None:
            return self
        left_s = max(0.0, ends - asyncio.get_running_loop().time())
        return msgspec.structs.replace(self, try_s=min(self.try_s, left_s), all_s=min(self.all_s, left_s))


COURTESY = Patience(try_s=300.0, all_s=600.0)
"""For what a job's end does not depend on."""


class Caller:
    """Calls ports; ``jitter`` returns a number from 0 to 1."""

    def __init__(self, jitter: Callable[[], float], patience: Patience) -> None:
        """Keep the default patience."""
        self._jitter = jitter
        self.patience = patience

    async def once(self, call: Callable[[], Awaitable[T]], what: str, *, try_s: float | None = None) -> T:
        """
        Call within the limit of one try.

        Raises:
            Unavailable: it took longer; ``what`` says what was attempted.
        """
        limit = self.patience.try_s if try_s is None else try_s
        try:
            async with asyncio.timeout(limit):
                return await call()
        except TimeoutError as error:
            raise Unavailable(f"{what}: no answer within {limit:g} s") from error

    async def until_done(self, call: Callable[[], Awaitable[T]], what: str, patience: Patience | None = None) -> T:
        """
        Call again while the error is a retryable one.

        Raises:
            RunnerError: one that is not retryable, or the last one when the patience is used up.
        """
        patience = patience or self.patience
        clock = asyncio.get_running_loop().time
        ends, pause, quiet_until = clock() + patience.all_s, patience.first_s, clock() + QUIET_S
        while True:
            try:
                return await self.once(call, what, try_s=patience.try_s)
            except RunnerError as error:
                if not error.retryable or clock() + pause > ends:
                    raise
                if clock() >= quiet_until:
                    logger.warning("%s is tried again", what, extra={"action": "retry", "reason": str(error)})
                    quiet_until = clock() + patience.most_s
            await asyncio.sleep(pause * (0.5 + self._jitter() / 2))
            pause = min(patience.most_s, pause * 2)
