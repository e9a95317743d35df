"""
One sink as all feeds of a queue share it: how it stands, and whose turn it is to try it while it takes nothing.

However many jobs have something for a sink that is away, it is tried once each back-off. What is meant for it waits
in the spools, not here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from runner.calls import Caller
from runner.errors import ConfigurationError, RunnerError
from runner.job import Key
from runner.ports import Sink

T = TypeVar("T")
logger = logging.getLogger(__name__)

FIRST_S = 0.1
MOST_S = 30.0
WORTH_A_LINE = 4
"""After so many tries, a second in all, it is told that a sink is away."""


class Refusals:
    """Who of a queue's services refuses us, and why: one reason is told once, however many jobs wait for it."""

    def __init__(self) -> None:
        """Begin with none."""
        # By the sink's name; "" is the result backend itself.
        self._reasons: dict[str, str] = {}

    def refused(self, queue: str, error: RunnerError, by: str = "") -> None:
        """Log that what its jobs leave waits until a person mends something; until then, or a change, only once."""
        if str(error) not in self._reasons.values():
            what = f"sink {by}" if by else "the result backend"
            facts = {"action": "store", "queue": queue, "reason": str(error)}
            logger.error("%s of a queue refuses, and what its jobs leave waits for it", what, extra=facts)
        self._reasons[by] = str(error)

    def took(self, queue: str, by: str = "") -> None:
        """Log that what waited goes on, where it was told that it waits."""
        reason = self._reasons.pop(by, None)
        if reason is not None and reason not in self._reasons.values():
            what = f"sink {by}" if by else "the result backend"
            logger.info("%s of a queue takes what waited", what, extra={"action": "store", "queue": queue})

    def forget(self) -> None:
        """Tell all of them again."""
        self._reasons.clear()


class Users:
    """Who uses something that is not to be closed meanwhile."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    @property
    def is_used(self) -> bool:
        """Whether somebody uses it."""
        return self._count > 0

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep it from being closed meanwhile."""
        self._count += 1
        self._none.clear()
        try:
            yield
        finally:
            self._count -= 1
            if not self._count:
                self._none.set()

    async def unused(self) -> None:
        """Wait until nobody uses it, as long as that takes: what a job's log owes to a service that is away."""
        await self._none.wait()


class Outlet(Users):
    """A sink under its name, used by the feeds of jobs; ``jitter`` returns a number from 0 to 1."""

    def __init__(self, name: str, sink: Sink, refusals: Refusals, jitter: Callable[[], float]) -> None:
        """Begin with a sink that takes what it is given."""
        super().__init__()
        self.name, self.sink = name, sink
        self._refusals, self._jitter = refusals, jitter
        # Tries in a row that did not work.
        self._failures = 0
        self._is_told_of = False
        self._turn = asyncio.Lock()
        # Jobs that ended and are still told here: no more of them wait at a time than the fan-out allows.
        self.late: set[Key] = set()

    @property
    def is_down(self) -> bool:
        """Whether the last try did not work."""
        return self._failures > 0

    def late_has_room(self, key: Key, most: int) -> bool:
        """Tell whether this job may be told here after its end, beside others."""
        return key in self.late or len(self.late) < most

    async def tell(
        self,
        call: Callable[[], Awaitable[T]],
        caller: Caller,
        queue: str,
        *,
        check: Callable[[], None],
        proves: bool = True,
    ) -> T:
        """
        Call the sink until it takes it, as long as that takes; ``check`` is called before each try and may raise.
        ``proves``: where the call works, the sink takes what it is given.

        Raises:
            RunnerError: it answered no, and that is about this job alone.
        """
        pause_s = FIRST_S
        while True:
            check()
            was_down = self.is_down
            try:
                async with self._turn:
                    if self.is_down:
                        check()
                        await asyncio.sleep(self._pause_s())
                        check()
                        return await self._try(call, caller, queue, proves=proves)
                return await self._try(call, caller, queue, proves=proves)
            except RunnerError as error:
                if not (error.retryable or isinstance(error, ConfigurationError)):
                    raise
            if not was_down:
                # Others may be served meanwhile: then it is this job's own trouble, and must not disturb them.
                await asyncio.sleep(self._jittered(pause_s))
                pause_s = min(MOST_S, pause_s * 2)

    async def _try(self, call: Callable[[], Awaitable[T]], caller: Caller, queue: str, *, proves: bool) -> T:
        try:
            result = await caller.once(call, f"sink {self.name} of queue {queue}")
        except RunnerError as error:
            self._failed(queue, error)
            raise
        if proves:
            self._took(queue)
        self._failures = min(self._failures, 1)  # it answers at least
        return result

    def _failed(self, queue: str, error: RunnerError) -> None:
        is_refusal = isinstance(error, ConfigurationError)
        if is_refusal:
            self._refusals.refused(queue, error, self.name)
        elif not error.retryable:
            return
        self._failures += 1
        if self._failures >= WORTH_A_LINE and not (is_refusal or self._is_told_of):
            self._is_told_of = True
            facts = {"action": "feed", "queue": queue, "sink": self.name, "reason": str(error)}
            logger.warning("a sink is away: what is meant for it waits on the disk", extra=facts)

    def _took(self, queue: str) -> None:
        self._refusals.took(queue, self.name)
        if self._is_told_of:
            facts = {"action": "feed", "queue": queue, "sink": self.name}
            logger.info("a sink that was away is there again", extra=facts)
        self._failures, self._is_told_of = 0, False

    def _pause_s(self) -> float:
        return self._jittered(min(MOST_S, FIRST_S * 2.0 ** min(self._failures, 20)))

    def _jittered(self, seconds: float) -> float:
        return seconds * (0.5 + self._jitter() / 2)
