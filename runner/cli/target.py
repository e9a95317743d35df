"""Which queue a command means, opened: the one that was named, or the box's own; and its result backend."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from runner.cli import paths
from runner.cli.parser import nearest
from runner.errors import ConfigurationError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator

    from runner.ports import Queue, Results

KINDS = ("folder",)
LATER_KINDS = ("redis", "rediss", "amqp", "amqps", "sqs", "pubsub")
CLIENT_LEASE_S = 60.0


class Target(msgspec.Struct, frozen=True):
    """An open queue with its result backend; ``own`` says that it is the box's own, ``root`` its directory."""

    url: str
    queue: Queue
    results: Results
    own: bool
    root: Path


@asynccontextmanager
async def open_target(args: argparse.Namespace) -> AsyncIterator[Target]:
    """
    Open the queue that ``--queue`` names, else the box's own, made at its first use.

    Raises:
        UsageError: the URL names no kind of queue that this version serves.
        ConfigurationError: its directory is something else, or is not this user's to write.
    """
    from adapters.results.folder import FolderResults

    from adapters.queues.folder import FolderBroker

    url = args.queue or paths.own_queue(paths.state_dir(args))
    root, single = folder_of(url)
    broker = FolderBroker(root, box_id="", now=time.time, lease_s=CLIENT_LEASE_S, single=single or not args.queue)
    queue = await broker.open((await broker.queues())[0])
    results = FolderResults(...)
    try:
        yield Target(url, queue, results, own=not args.queue, root=Path(root))
    finally:
        await results.close()
        await queue.close()
        await broker.close()


def folder_of(url: str) -> tuple[str, bool]:
    """Return the directory of a ``folder:`` URL, and whether it names one queue for sure."""
    from adapters.queues.folder_layout import queue_location

    scheme = urlsplit(url).scheme
    if scheme not in KINDS:
        raise UsageError(f"--queue {url}: {_no_kind(scheme)}")
    try:
        return queue_location(url)
    except ConfigurationError as error:
        raise UsageError(f"--queue {url}: {error}") from error


def _no_kind(scheme: str) -> str:
    if scheme in LATER_KINDS:
        return f"queues of kind {scheme} are not served by this version; use folder:///path"
    what = f"{scheme}: is no kind of queue{nearest(scheme, (*KINDS, *LATER_KINDS))}" if scheme else "it has no kind"
    return f"{what}; write folder:///path"
