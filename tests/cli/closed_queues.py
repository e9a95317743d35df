"""A queue that nobody can look into, and nothing can be taken out of, as some services are; behind it a real folder."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from adapters.queues.folder import FolderQueue
from adapters.queues.folder_clock import FileSystemClock
from adapters.queues.folder_layout import open_layout
from adapters.results.folder import FolderResults
from runner.cli.line import ServiceLine
from runner.cli.place import Place
from runner.cli.target import Target
from runner.credential import Credential
from runner.errors import RunnerError
from runner.ports import Delivery, QueuedMessage


class ClosedQueue(FolderQueue):
    """Shows nothing; ``refusal`` is what a put ends with."""

    refusal: RunnerError | None = None

    async def peek(self, limit: int) -> tuple[QueuedMessage, ...] | None:
        return None

    async def withdraw(self, job_id: str) -> tuple[Delivery, ...]:
        return ()

    async def put(self, body: bytes, *, job_id: str, user: str = "", priority: int = 0, submission: str = "") -> str:
        if self.refusal is not None:
            raise self.refusal
        return await super().put(body, job_id=job_id, user=user, priority=priority, submission=submission)


@asynccontextmanager
async def closed_target(
    root: Path, *, with_results: bool = True, refusal: RunnerError | None = None
) -> AsyncIterator[Target]:
    """Open a queue as a client does that can only put."""
    layout = open_layout(str(root))
    clock = FileSystemClock(layout.path("tmp", "clock-client"))
    queue = ClosedQueue(root.name, layout, clock=clock, now=time.time, lease_s=60)
    queue.refusal = refusal
    results = FolderResults(str(root / "results")) if with_results else None
    place = Place("amqp://h/", Credential("rabbitmq", "amqp://h/"), root.name)
    try:
        yield Target(place, ServiceLine(queue), results, queue)
    finally:
        if results is not None:
            await results.close()
        await queue.close()
