"""
The queue that a command means, opened, with its result backend: to look, or to change something.

Looking makes nothing where that can be helped: a mistyped folder is refused. A queue that is put into is made.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from runner.cli import paths
from runner.cli.line import FolderLine, Line, ServiceLine
from runner.cli.place import Place, find_place, raise_several
from runner.errors import Refused, Unavailable

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator

    from runner.ports import Broker, Queue, Results

OPEN_S = 30.0


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
    where = "where stands what is uploaded with its jobs, and what became of them"
    return Refused(f"queue {queue} has no result backend, {where}: name the one that its boxes write to: --results URL")


@asynccontextmanager
async def open_view(args: argparse.Namespace) -> AsyncIterator[View]:
    """
    Open what a command looks at.

    Raises:
        Refused: the queue that was named is not there.
    """
    place = existing_place(args)
    if place.root is None:
        async with open_target(args) as target:
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
async def open_target(args: argparse.Namespace) -> AsyncIterator[Target]:
    """
    Open a queue, made at its first use, and its result backend.

    Raises:
        ConfigurationError: it is something else, or is not this user's to change.
        Refused, UsageError: nothing says which queue is meant.
    """
    from adapters.registry import open_broker
    from runner.ports import Box

    place = find_place(args)
    if place.own:
        await asyncio.to_thread(_make_state_directory, args)
    broker = open_broker(place.credential, Box("", (), 0, 0))
    try:
        queue = await _open_queue(place, broker)
        try:
            async with _open_results(place, queue.name) as backend:
                yield Target(
                    place, ServiceLine(queue) if place.root is None else FolderLine(place.root), backend, queue
                )
        finally:
            await queue.close()
    finally:
        await broker.close()


async def _open_queue(place: Place, broker: Broker) -> Queue:
    try:
        async with asyncio.timeout(OPEN_S):
            return await broker.open(place.queue or await _only_queue(place, broker))
    except TimeoutError:
        raise Unavailable(f"open queue {place.url}: no answer within {OPEN_S:.0f} s: try again") from None


async def _only_queue(place: Place, broker: Broker) -> str:
    found = await broker.queues()
    if len(found) == 1:
        return found[0]
    if found:
        raise_several(f"--queue {place.url}", _with_name(place, found[0]), len(found))
    raise Refused(
        f"--queue {place.url}: there is no queue behind it; name the one to be made: {_with_name(place, 'NAME')}"
    )


def _with_name(place: Place, name: str) -> str:
    if place.credential.kind == "sqs":
        return f"{place.url.rstrip('/')}/{name}"
    return f"{place.url}?queue={quote(name)}"


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
