"""Which queue a command means, opened: the one that was named, or the box's own; and its result backend."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

import msgspec

from runner.cli import paths
from runner.cli.output import masked
from runner.cli.parser import nearest
from runner.errors import ConfigurationError, Refused, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Callable

    from runner.ports import Queue, Results

T = TypeVar("T")

KINDS = ("folder",)
LATER_KINDS = ("redis", "rediss", "amqp", "amqps", "sqs", "pubsub")
CLIENT_LEASE_S = 60.0


class Place(msgspec.Struct, frozen=True):
    """A queue's directory and that of its result backend; ``own`` says that it is the box's own."""

    url: str
    root: Path
    results: Path
    own: bool


class Target(msgspec.Struct, frozen=True):
    """An open queue with its result backend."""

    place: Place
    queue: Queue
    results: Results


def find_place(args: argparse.Namespace) -> Place:
    """
    Return where the queue stands that ``--queue`` names, else the box's own; nothing is made.

    Raises:
        UsageError: the URL names no kind of queue that this version serves, or several queues.
    """
    if args.results and not args.queue:
        raise UsageError("--results: it is of a queue that is named, too: add --queue URL")
    url = args.queue or paths.own_queue(paths.state_dir(args))
    root = _queue_root("--queue", url)
    named = (args.results or os.environ.get("RUNNER_RESULTS")) if args.queue else None
    results = _results("--results", named, root.name) if named else root / "results"
    return Place(url, root, results, own=not args.queue)


def _queue_root(option: str, url: str) -> Path:
    from adapters.folder_urls import folder_url, queue_location
    from adapters.queues.folder_layout import is_queue, queues_in

    root, single = _served(option, url, queue_location)
    found = () if single or is_queue(root) or not os.path.isdir(root) else queues_in(root)  # noqa: PTH112 - one of its own
    if len(found) > 1:
        named = f"{folder_url(root)}?queue={quote(found[0])}"
        raise UsageError(f"{option} {url}: there are {len(found)} queues; name one, like {named}")
    return Path(root) / found[0] if found else Path(root)


def _results(option: str, url: str, queue: str) -> Path:
    from adapters.folder_urls import results_directory

    return Path(_served(option, url, lambda url: results_directory(url, queue)))


def _served(option: str, url: str, read: Callable[[str], T]) -> T:
    """Read a URL of a kind that is served."""
    scheme = url.partition(":")[0].lower() if ":" in url else ""
    if scheme not in KINDS:
        raise UsageError(f"{option} {masked(url)}: {_no_kind(scheme)}")
    try:
        return read(url)
    except ConfigurationError as error:
        raise UsageError(f"{option}: {error}") from error


def _no_kind(scheme: str) -> str:
    if scheme in LATER_KINDS:
        return f"queues of kind {scheme} are not served by this version; use folder:///path"
    if not scheme:
        return "a queue has a kind; write folder:///path"
    return f"no such kind of queue: {scheme}{nearest(scheme, (*KINDS, *LATER_KINDS))}; write folder:///path"


def existing_place(args: argparse.Namespace) -> Place:
    """
    Return the place of a queue that was named and must be there: a mistyped name is not made by looking at it.

    Raises:
        Refused: there is none.
    """
    from adapters.queues.folder_layout import is_queue

    place = find_place(args)
    if not place.own and not is_queue(str(place.root)):
        raise Refused(f"--queue {place.url}: there is no queue at {place.root}; `runner submit` makes one")
    return place


@asynccontextmanager
async def open_results(place: Place) -> AsyncIterator[Results]:
    """Open a result backend; one that was never written reads as empty."""
    from adapters.results.folder import FolderResults

    results = FolderResults(str(place.results))
    try:
        yield results
    finally:
        await results.close()


@asynccontextmanager
async def open_target(args: argparse.Namespace) -> AsyncIterator[Target]:
    """
    Open a queue, made at its first use, and its result backend.

    Raises:
        ConfigurationError: its directory is something else, or is not this user's to write.
    """
    from adapters.queues.folder import FolderBroker

    place = find_place(args)
    if place.own:
        await asyncio.to_thread(_make_state_directory, args)
    broker = FolderBroker(str(place.root), box_id="", now=time.time, lease_s=CLIENT_LEASE_S, single=True)
    try:
        queue = await broker.open(place.root.name)
        try:
            async with open_results(place) as results:
                yield Target(place, queue, results)
        finally:
            await queue.close()
    finally:
        await broker.close()


def _make_state_directory(args: argparse.Namespace) -> None:
    from adapters.state_dir import StateDir

    StateDir(str(paths.state_dir(args)))
