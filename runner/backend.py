"""
A queue's result backend and the sinks that feed it: open for as long as its poller stands, over all its restarts.

Others are in the middle of storing there when a poller crashes, and a log is told to its end after the last claim is
settled. So only whoever ends a poller for good closes it, and not before the last user is done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from runner.calls import Caller
from runner.credential import Credential
from runner.errors import RunnerError
from runner.ports import Results, Sink, World
from runner.receipt import BoxBeat

logger = logging.getLogger(__name__)


class Backend:
    """What one poller opened beside its queue; ``results`` is None until then, and where the queue has none."""

    def __init__(self, world: World) -> None:
        """Begin with nothing open."""
        self._world = world
        self.results: Results | None = None
        # Opened with the results, since a sink remembers what it has sent there.
        self.sinks: Mapping[str, Sink] = {}
        # Whether it was told that it refuses us: told once, however many jobs wait for it.
        self._refuses = False
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    def open(self, credential: Credential, queue: str) -> None:
        """
        Open what is not open yet, so that trying again opens nothing twice.

        Raises:
            RunnerError: it cannot be opened like this.
        """
        if self.results is None:
            self.results = self._world.open_results(credential, queue)
        if not self.sinks:
            self.sinks = self._world.open_sinks(credential, queue, self.results)

    async def beat(self, caller: Caller, beat: BoxBeat) -> None:
        """Give a sign of life, where there is a backend; one that does not take it now gets the next one."""
        results = self.results
        if results is None:
            return
        try:
            await caller.once(lambda: results.beat(beat), "sign of life")
        except RunnerError as error:
            logger.debug("no sign of life was given", extra={"action": "beat", "reason": str(error)})

    async def change(self, credential: Credential) -> None:
        """Go on with other secrets of the same service, where it is open."""
        self._refuses = False
        if self.results is not None:
            with self.in_use():
                await self.results.change(credential)

    def refused(self, queue: str, error: RunnerError) -> None:
        """Log that what its jobs leave waits until a person mends something; until then, or a change, only once."""
        if not self._refuses:
            facts = {"action": "store", "queue": queue, "reason": str(error)}
            logger.error("the result backend of a queue refuses, and what its jobs leave waits for it", extra=facts)
        self._refuses = True

    def took(self, queue: str) -> None:
        """Log that what waited goes on, where it was told that it waits."""
        if self._refuses:
            logger.info("the result backend of a queue takes what waited", extra={"action": "store", "queue": queue})
        self._refuses = False

    @property
    def is_used(self) -> bool:
        """Whether somebody has something to send still."""
        return self._users > 0

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep it from being closed meanwhile."""
        self._users += 1
        self._unused.clear()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def unused(self) -> None:
        """Wait until nobody uses it, as long as that takes: what a job's log owes to a service that is away."""
        await self._unused.wait()
