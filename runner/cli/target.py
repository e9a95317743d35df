"""
The queue that a command means, opened, with its result backend: to look, or to change something.

Looking makes nothing where that can be helped: a mistyped folder is refused. A queue that is put into is made.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import msgspec

from runner.cli import paths
from runner.cli.line import FolderLine, Line, ServiceLine
from runner.cli.place import Place, find_place, raise_several
from runner.errors import Refused, RunnerError, Unavailable

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Coroutine

    from runner.credential import Credential
    from runner.ports import Broker, Queue, Results

T = TypeVar("T")

OPEN_S = 30.0
LIST_S = 5.0
"""So long a command asks a service for its queues, only to tell a mistyped name."""


class View(msgspec.Struct, frozen=True):
    """A queue to look at; ``backend`` is None where it has no result backend."""

    place: Place
    line: Line
    backend: Results | None

    @property
    def results(self) -> Results:
        """
        The result backend.

        Raises:
            Refused: there is none.
        """
        if self.backend is None:
            raise no_results(self.line.name)
        return self.backend


class Target(View, frozen=True):
    """A queue to change."""

    queue: Queue


def no_results(queue: str) -> Refused:
    """Return the error of a command that a queue's result backend would have to answer."""
    what = "what became of its jobs, and what is uploaded with them"
    return Refused(
        f"queue {queue} has no result backend for {what}: name the one that its boxes use with --results URL"
    )


@asynccontextmanager
async def open_view(args: argparse.Namespace) -> AsyncIterator[View]:
    """
    Open what a command looks at.

    Raises:
        Refused: the queue that was named is not there.
    """
    place = existing_place(args)
    if place.root is None:
        async with open_target(args, make=False) as target:
            yield target
        return
    async with _open_results(place, place.root.name) as backend:
        yield View(place, FolderLine(place.root), backend)


def existing_place(args: argparse.Namespace) -> Place:
    """
    Return the place of a queue that must be there: a mistyped folder is not made by looking at it.

    Raises:
        Refused: there is none.
    """
    from adapters.queues.folder_layout import is_queue

    place = find_place(args)
    if place.root is not None and not place.own and not is_queue(str(place.root)):
        raise Refused(f"--queue {place.url}: there is no queue at {place.root}; `runner submit` makes one")
    return place


@asynccontextmanager
async def open_target(args: argparse.Namespace, *, make: bool) -> AsyncIterator[Target]:
    """
    Open a queue and its result backend; one that is not there is made where ``make`` says so.

    Raises:
        ConfigurationError: it is something else, or is not this user's to change.
        Refused, UsageError: it is not there, or nothing says which queue is meant.
    """
    _hush_libraries()
    place = find_place(args) if make else existing_place(args)
    if place.own:
        await asyncio.to_thread(_make_state_directory, args)
    async with open_broker(place.credential) as broker:
        queue = await _within_time(place, _open_queue(place, broker, make=make))
        try:
            async with _open_results(place, queue.name) as backend:
                line = ServiceLine(queue) if place.root is None else FolderLine(place.root)
                yield Target(place, line, backend, queue)
        finally:
            await queue.close()


def _hush_libraries() -> None:
    """What goes wrong is an error with a sentence of its own; what libraries log of it beside that helps nobody."""
    if not logging.getLogger().hasHandlers():
        logging.getLogger().addHandler(logging.NullHandler())


@asynccontextmanager
async def open_broker(credential: Credential) -> AsyncIterator[Broker]:
    """Open a service as a client does, which has no box."""
    from adapters import registry
    from runner.ports import Box

    broker = registry.open_broker(credential, Box("", (), 0, 0))
    try:
        yield broker
    finally:
        await broker.close()


async def _within_time(place: Place, opening: Coroutine[object, object, T]) -> T:
    try:
        async with asyncio.timeout(OPEN_S):
            return await opening
    except TimeoutError:
        raise Unavailable(f"open queue {place.url}: no answer within {OPEN_S:.0f} s: try again") from None


async def _open_queue(place: Place, broker: Broker, *, make: bool) -> Queue:
    name = place.queue or await _only_queue(place, broker)
    if not make and place.root is None and place.queue:
        await _check_there(place)
    return await broker.open(name)


async def _only_queue(place: Place, broker: Broker) -> str:
    found = await broker.queues()
    if len(found) == 1:
        return found[0]
    if found:
        raise_several(place.typed, place.option(found[0]), len(found))
    named = place.option("NAME")
    raise Refused(f"{place.typed}: there is no queue behind it; `runner submit` makes one: {named}")


async def _check_there(place: Place) -> None:
    """
    Look for a queue among those behind its service; where that does not list them, it is believed.

    Raises:
        Refused: it is not among them.
    """
    service = place.with_name("")
    async with open_broker(service.credential) as broker:
        try:
            async with asyncio.timeout(LIST_S):
                found = await broker.queues()
        except (RunnerError, TimeoutError):
            return
    if place.queue not in found:
        raise Refused(f"there is no queue {place.queue} at {service.url}; `runner submit` makes one")


@asynccontextmanager
async def _open_results(place: Place, queue: str) -> AsyncIterator[Results | None]:
    """Open a result backend; one that was never written reads as empty."""
    from adapters.registry import open_results
    from runner.ports import Box

    results = open_results(place.credential, queue, Box("", (), 0, 0))
    try:
        yield results
    finally:
        if results is not None:
            await results.close()


def _make_state_directory(args: argparse.Namespace) -> None:
    from adapters.state_dir import StateDir

    StateDir(str(paths.state_dir(args)))
