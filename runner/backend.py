"""
A queue's result backend and the sinks that feed it: open for as long as its poller stands, over all its restarts.

Others are in the middle of storing there when a poller crashes, and a log is told to its end after the last claim is
settled. So only whoever ends a poller for good closes it, and not before the last user is done.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping

from runner.calls import Caller
from runner.credential import Credential
from runner.errors import RunnerError
from runner.outlet import Outlet, Refusals, Users
from runner.ports import Results, World
from runner.receipt import BoxBeat

logger = logging.getLogger(__name__)

CLOSE_S = 5.0


class Backend(Users):
    """What one poller opened beside its queue; ``results`` is None until then, and where the queue has none."""

    def __init__(self, world: World) -> None:
        """Begin with nothing open."""
        super().__init__()
        self._world = world
        self.results: Results | None = None
        # By name: where the logs of its jobs go now; None until they are open. Those before wait for their last users.
        self._outlets: Mapping[str, Outlet] | None = None
        self._replaced: list[Outlet] = []
        # What it is open with.
        self._credential: Credential | None = None
        self._queue = ""
        self.refusals = Refusals()

    @property
    def outlets(self) -> Mapping[str, Outlet]:
        """Where the logs of its jobs go, by name; none before it is open."""
        return self._outlets or {}

    def open(self, credential: Credential, queue: str) -> None:
        """
        Open what is not open yet, so that trying again opens nothing twice.

        Raises:
            RunnerError: it cannot be opened like this.
        """
        if self.results is None:
            self.results = self._world.open_results(credential, queue)
        if self._outlets is None:
            self._credential, self._queue = credential, queue
            self._outlets = self._open_outlets(credential)

    def _open_outlets(self, credential: Credential) -> Mapping[str, Outlet]:
        sinks = self._world.open_sinks(credential, self._queue, self.results)
        return {name: Outlet(name, sink, self.refusals, self._world.random) for name, sink in sinks.items()}

    async def beat(self, caller: Caller, beat: BoxBeat) -> None:
        """Give a sign of life, where there is a backend; one that does not take it now gets the next one."""
        results = self.results
        if results is None:
            return
        try:
            await caller.once(lambda: results.beat(beat), "sign of life")
        except RunnerError as error:
            logger.debug("no sign of life was given", extra={"action": "beat", "reason": str(error)})

    async def change(self, credential: Credential, caller: Caller) -> None:
        """
        Go on with other secrets of the same service, where it is open; logs go on over new connections.

        Raises:
            RunnerError: they are refused, or it could not be tried.
        """
        self.refusals.forget()
        if self.results is not None:
            with self.in_use():
                await self.results.change(credential)
        if self._outlets is not None and credential != self._credential:
            before, self._outlets = self._outlets, self._open_outlets(credential)
            self._credential = credential
            self._replaced.extend(before.values())
        await self.release_replaced(caller)

    @property
    def has_replaced(self) -> bool:
        """Whether sinks wait for their last users, which others stand for now."""
        return bool(self._replaced)

    async def release_replaced(self, caller: Caller) -> None:
        """Let go of the sinks that others stand for now and that nobody feeds any more."""
        while unused := [outlet for outlet in self._replaced if not outlet.is_used]:
            self._replaced = [outlet for outlet in self._replaced if outlet.is_used]
            for outlet in unused:
                await self._release(outlet, caller)

    async def close(self, caller: Caller) -> None:
        """Let go of every sink, then of the result backend; idempotent, and nothing is asked of it afterwards."""
        outlets, self._outlets = [*self.outlets.values(), *self._replaced], {}
        self._replaced = []
        for outlet in outlets:
            await self._release(outlet, caller)
        results, self.results = self.results, None
        if results is not None:
            await closed(results.close, f"the result backend of queue {self._queue}", caller)

    async def _release(self, outlet: Outlet, caller: Caller) -> None:
        await closed(outlet.sink.release, f"sink {outlet.name} of queue {self._queue}", caller)

    @property
    def owes(self) -> bool:
        """Whether a sink that takes what it is given is being told of a job that ended."""
        return any(outlet.late and not outlet.is_down for outlet in self.outlets.values())


async def closed(close: Callable[[], Awaitable[None]], what: str, caller: Caller) -> None:
    """Close something within a few seconds, whatever it answers."""
    try:
        await caller.once(close, f"closing {what}", try_s=CLOSE_S)
    except RunnerError as error:
        logger.warning("not closed", extra={"action": "close", "reason": str(error)})
