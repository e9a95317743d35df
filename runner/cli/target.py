"""
The queue that a command means, opened, with its result backend: to look, or to change something.

Looking makes nothing: a mistyped queue is refused. A queue that is put into is made.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec

from runner.cli import paths
from runner.cli.line import FolderLine, Line, ServiceLine
from runner.cli.place import Place, find_place, raise_several
from runner.errors import NoSuchQueue, Refused, Unavailable

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Awaitable, Callable

    from runner.credential import Credential
    from runner.ports import Broker, Queue, Results

T = TypeVar("T")

OPEN_S = 30.0
LOOK_S = 3.0
"""So long a command that looks waits for each service to answer."""


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
    Open what a command looks at, once the queue and its result backend have answered.

    Raises:
        Refused: the queue that was named is not there.
        Unavailable: a service did not answer; the text names each that did not.
    """
    _hush_libraries()
    place = existing_place(args)
    if place.root is None:
        async with _opened(place, make=False, asked=True) as target:
            yield target
        return
    async with _open_results(place, place.root.name) as backend:
        await _answered(place, backend)
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
async def open_target(args: argparse.Namespace, *, make: bool, needs_results: bool = False) -> AsyncIterator[Target]:
    """
    Open a queue and its result backend; one that is not there is made where ``make`` says so.

    What would be refused for its results is refused before a queue is made.

    Raises:
        ConfigurationError: it is something else, or is not this user's to change.
        Refused, UsageError: it is not there, or nothing says which queue is meant.
    """
    _hush_libraries()
    place = find_place(args) if make else existing_place(args)
    if place.own:
        await asyncio.to_thread(_make_state_directory, args)
    async with _opened(place, make=make or place.own, needs_results=needs_results) as target:
        yield target


@asynccontextmanager
async def _opened(
    place: Place, *, make: bool, needs_results: bool = False, asked: bool = False
) -> AsyncIterator[Target]:
    """Open both; ``asked`` says that the result backend is to answer, too, at the same time."""
    limit_s, opening = OPEN_S if make else LOOK_S, f"open queue {place.url}"
    async with open_broker(place.credential) as broker:
        name = place.queue or await _in_time(opening, _only_queue(place, broker), limit_s)
        async with _open_results(place, name) as backend:
            if needs_results and backend is None:
                raise no_results(name)
            first = partial(_answered, place, backend)
            async with AsyncExitStack() as stack:
                queue = await _both(
                    _in_time(opening, _open_queue(broker, name, stack, first if make else None), limit_s),
                    _answered(place, backend if asked else None),
                )
                line = ServiceLine(queue) if place.root is None else FolderLine(place.root)
                yield Target(place, line, backend, queue)


async def _both(opening: Awaitable[Queue], answered: Awaitable[None]) -> Queue:
    """Wait for both, so that it is told of each what is wrong with it."""
    queue, answer = await asyncio.gather(opening, answered, return_exceptions=True)
    if isinstance(queue, Unavailable) and isinstance(answer, Unavailable):
        raise Unavailable(f"{queue}; {answer}")
    if isinstance(queue, BaseException):
        raise queue
    if isinstance(answer, BaseException):
        raise answer
    return queue


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


async def _in_time(what: str, call: Awaitable[T], limit_s: float) -> T:
    try:
        async with asyncio.timeout(limit_s):
            return await call
    except TimeoutError:
        fix = "check that it runs and can be reached"
        raise Unavailable(f"{what}: no answer within {limit_s:.0f} s: {fix}") from None


async def _answered(place: Place, backend: Results | None) -> None:
    """Have a result backend answer that is a service of its own: what is cheap to ask."""
    if backend is not None and (url := place.credential.rights.results):
        await _in_time(f"read results in {url}", backend.stops(), LOOK_S)


async def _open_queue(
    broker: Broker, name: str, stack: AsyncExitStack, first: Callable[[], Awaitable[None]] | None
) -> Queue:
    """Open a queue until the stack ends; ``first`` is what has to go well before one is made, None to make none."""
    try:
        queue = await broker.open(name, make=False)
    except NoSuchQueue as error:
        if first is None:
            raise NoSuchQueue(f"{error}; `runner submit` makes one") from None
        await first()
        queue = await broker.open(name)
    stack.push_async_callback(queue.close)
    return queue


async def _only_queue(place: Place, broker: Broker) -> str:
    found = await broker.queues()
    if len(found) == 1:
        return found[0]
    if found:
        raise_several(place.typed, place.option(found[0]), len(found))
    named = place.option("NAME")
    raise Refused(f"{place.typed}: there is no queue behind it; `runner submit` makes one: {named}")


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
