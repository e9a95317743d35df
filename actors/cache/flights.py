"""
One flight at a time for each image: a pull that several jobs wait for, told in the log of each.

A flight goes on while anybody is aboard; who leaves it fails nobody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from runner.job import Key
from runner.ports import LocalImage
from runner.records import ClaimedJob
from runner.trail import Trail

TELL_EVERY_S = 5.0
"""Between two lines of one flight; a large image brings thousands of events."""

Tell = Callable[[str], None]
Work = Callable[[Tell], Awaitable[LocalImage]]


class Hands(Protocol):
    """Whose tasks flights are."""

    def start(self, work: Callable[[], Awaitable[None]], name: str) -> None:
        """Run a task under a name that is free."""
        ...

    def cancel(self, name: str) -> None:
        """Cancel a task, and free its name at once."""
        ...


@dataclass
class _Flight:
    """One image on its way."""

    landed: asyncio.Future[LocalImage]
    aboard: dict[Key, ClaimedJob] = field(default_factory=dict)
    # The newest line, and that nobody was told of it yet.
    line: str = ""
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, line: str) -> None:
        """Take the place of the line before."""
        self.line = line
        self.news.set()


class Flights:
    """Single flight by name."""

    def __init__(self, hands: Hands, trail: Trail) -> None:
        """Begin without any."""
        self._hands, self._trail = hands, trail
        self._flights: dict[str, _Flight] = {}

    async def join(self, name: str, claim: ClaimedJob, work: Work, *, begins: str) -> LocalImage:
        """
        Wait for a flight, begun with ``work`` where there is none; its end is everybody's.

        Raises:
            Exception: what the work raised.
        """
        flight = self._flights.get(name)
        is_first = flight is None
        if flight is None:
            flight = self._flights[name] = self._begin(name, work)
        flight.aboard[claim.key] = claim
        try:
            await self._trail.say(claim, begins if is_first else f"{begins}, as another job has begun it")
            await asyncio.wait({flight.landed})
            return flight.landed.result()
        finally:
            self._leave(name, flight, claim)

    def _begin(self, name: str, work: Work) -> _Flight:
        flight = _Flight(asyncio.get_running_loop().create_future())
        self._hands.start(lambda: self._fly(name, flight, work), _task(name))
        return flight

    def _leave(self, name: str, flight: _Flight, claim: ClaimedJob) -> None:
        flight.aboard.pop(claim.key, None)
        if not flight.aboard and self._flights.get(name) is flight:
            del self._flights[name]
            self._hands.cancel(_task(name))

    async def _fly(self, name: str, flight: _Flight, work: Work) -> None:
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(self._tell_all(flight))
            try:
                flight.landed.set_result(await work(flight.tell))
            except Exception as error:  # noqa: BLE001 - raised again in the task of each job that is aboard
                flight.landed.set_exception(error)
                flight.landed.exception()  # nobody may be aboard any more
            telling.cancel()
        if self._flights.get(name) is flight:
            del self._flights[name]

    async def _tell_all(self, flight: _Flight) -> None:
        while True:
            await flight.news.wait()
            flight.news.clear()
            for claim in tuple(flight.aboard.values()):
                await self._trail.say(claim, flight.line)
            await asyncio.sleep(TELL_EVERY_S)


def _task(name: str) -> str:
    return f"image {name}"
