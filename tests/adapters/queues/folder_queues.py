"""Ways into a folder queue for its own tests: by the real clock, or by one that can be moved."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from adapters.files import names_in
from adapters.queues.folder import FolderBroker, FolderQueue
from adapters.queues.folder_clock import FileSystemClock, QueueClock
from adapters.queues.folder_layout import open_layout

PLACES = ("ready", "claimed", "later", "dead")


@dataclass
class Clock:
    """Stands still until it is moved."""

    at: float

    def now(self) -> float:
        return self.at


@asynccontextmanager
async def folder_queue(
    root: Path,
    *,
    box: str = "box-1",
    lease_s: float = 60.0,
    clock: QueueClock | None = None,
    now: Callable[[], float] = time.time,
) -> AsyncIterator[FolderQueue]:
    """Open the queue in a directory as the runner of a box."""
    broker = FolderBroker(str(root), box_id=box, now=now, lease_s=lease_s, single=True, clock=clock)
    queue = await broker.open(root.name)
    try:
        yield queue
    finally:
        await queue.close()
        await broker.close()


@asynccontextmanager
async def unnoticed_queue(root: Path) -> AsyncIterator[FolderQueue]:
    """Open a queue as where the kernel gives no notices of changes."""
    layout = open_layout(str(root))
    clock = FileSystemClock(layout.path("tmp", "clock"))
    queue = FolderQueue("queue", layout, clock=clock, now=time.time, lease_s=60, notices=False)
    try:
        yield queue
    finally:
        await queue.close()


def standing(root: Path) -> list[str]:
    """Return the submission of every message that stands anywhere, as often as it does."""
    names = [name for place in PLACES for name in names_in(str(root / place))]
    messages = [name.partition("~")[2] if name[16:17] == "~" else name.partition("~")[0] for name in names]
    return sorted(message.split("-")[2] for message in messages)
