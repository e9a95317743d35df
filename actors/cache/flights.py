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

LINES_MAX_BYTES = 1 << 20
"""Of a build that says much."""

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
    # Whether each line counts, as those of a build do, or only the newest.
    every_line: bool
    # By job and claim: one that was lost and is back may come aboard before it has left.
    aboard: dict[tuple[Key, float], ClaimedJob] = field(default_factory=dict)
    # Lines that nobody was told of yet, and how many bytes of lines there were in all.
    lines: list[str] = field(default_factory=list)
    line_bytes: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, line: str) -> None:
        """Take a line: beside those before, or in their place."""
        if not self.every_line:
            self.lines = [line]
        elif self.line_bytes <= LINES_MAX_BYTES:
            self.line_bytes += len(line)
            self.lines.append(line if self.line_bytes <= LINES_MAX_BYTES else "… what comes after that is not told")
        self.news.set()

    def take(self) -> str:
        """Return what is to be told now."""
        self.news.clear()
        text, self.lines = "\n".join(self.lines), []
        return text


class Flights:
    """Single flight by name."""

    def __init__(self, hands: Hands, trail: Trail) -> None:
        """Begin without any."""
        self._hands, self._trail = hands, trail
        self._flights: dict[str, _Flight] = {}

    async def join(
        self, name: str, claim: ClaimedJob, work: Work, *, begins: str, every_line: bool = False
    ) -> LocalImage:
        """
        Wait for a flight, begun with ``work`` where there is none; its end is everybody's.

        Raises:
            Exception: what the work raised.
        """
        flight = self._flights.get(name)
        is_first = flight is None
        if flight is None:
            flight = self._flights[name] = self._begin(name, work, every_line=every_line)
        flight.aboard[claim.key, claim.claimed_at] = claim
        try:
            await self._trail.say(claim, begins if is_first else f"{begins}, as another job has begun it")
            await asyncio.wait({flight.landed})
            return flight.landed.result()
        finally:
            self._leave(name, flight, claim)

    def _begin(self, name: str, work: Work, *, every_line: bool) -> _Flight:
        flight = _Flight(asyncio.get_running_loop().create_future(), every_line)
        self._hands.start(lambda: self._fly(name, flight, work), _task(name))
        return flight

    def _leave(self, name: str, flight: _Flight, claim: ClaimedJob) -> None:
        flight.aboard.pop((claim.key, claim.claimed_at), None)
        if not flight.aboard and self._flights.get(name) is flight:
            del self._flights[name]
            self._hands.cancel(_task(name))

    async def _fly(self, name: str, flight: _Flight, work: Work) -> None:
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(self._tell_regularly(flight))
            try:
                image = await work(flight.tell)
                await self._tell(flight)
                flight.landed.set_result(image)
            except Exception as error:  # noqa: BLE001 - raised again in the task of each job that is aboard
                await self._tell(flight)
                flight.landed.set_exception(error)
                flight.landed.exception()  # nobody may be aboard any more
            telling.cancel()
        if self._flights.get(name) is flight:
            del self._flights[name]

    async def _tell_regularly(self, flight: _Flight) -> None:
        while True:
            await flight.news.wait()
            await self._tell(flight)
            await asyncio.sleep(TELL_EVERY_S)

    async def _tell(self, flight: _Flight) -> None:
        if text := flight.take():
            for claim in tuple(flight.aboard.values()):
                await self._trail.say(claim, text)


def _task(name: str) -> str:
    return f"image {name}"
