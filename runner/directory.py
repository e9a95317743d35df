"""
Which poller and which result backend stand behind a queue, right now.

Owned by the composition root. A poller enters its queue when it has opened it and leaves with it; inventory, outputs
and logs look up. A queue that is not here is away: what belongs to it waits in the journal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from runner.errors import Refused, Unavailable

if TYPE_CHECKING:
    from runner.backend import Backend
    from runner.kernel import Ref
    from runner.messages import (
        CreditGiven,
        LeaseCheck,
        SendBeat,
        Settled,
        StopFetching,
        TakenOver,
        WithdrawAsked,
    )
    from runner.ports import Results

T = TypeVar("T")


@dataclass(frozen=True)
class QueueEntry:
    """
    One open queue. ``source`` is the credential file that it is read with, ``told_at`` what that says of results;
    ``ends_claims`` is as the queue says.

    ``stays`` tells whether its poller is to go on; ``finishing`` returns how many jobs one holds that only finishes
    them, None while it fetches; ``closed`` is set when it has closed the queue.
    """

    name: str
    poller: Ref[CreditGiven | LeaseCheck | SendBeat | Settled | StopFetching | TakenOver | WithdrawAsked]
    backend: Backend
    ends_claims: bool = False
    source: str = ""
    told_at: str = ""
    stays: Callable[[], bool] = lambda: True
    finishing: Callable[[], int | None] = lambda: None
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def results(self) -> Results | None:
        """Its result backend, None where it has none."""
        return self.backend.results


class Directory:
    """Entries by the queue's identity."""

    def __init__(self) -> None:
        """Begin empty."""
        self._entries: dict[str, QueueEntry] = {}

    def enter(self, queue: str, entry: QueueEntry) -> None:
        """Add or replace a queue."""
        self._entries[queue] = entry

    def leave(self, queue: str, poller: Ref[StopFetching]) -> None:
        """Forget a queue, if it is this poller's; idempotent."""
        entry = self._entries.get(queue)
        if entry is not None and entry.poller is poller:
            del self._entries[queue]

    def is_read(self, queue: str) -> bool:
        """Tell whether a queue has a poller that is to go on: it finishes also what others left."""
        entry = self._entries.get(queue)
        return entry is not None and entry.stays()

    def find(self, queue: str) -> QueueEntry | None:
        """Return a queue's entry, None where it is away."""
        return self._entries.get(queue)

    async def on_results(self, queue: str, call: Callable[[Results], Awaitable[T]]) -> T | None:
        """
        Call a queue's result backend as it stands now; None where it has none.

        Raises:
            Unavailable: the queue is away just now; its poller opens it again.
        """
        entry = self._entries.get(queue)
        if entry is None:
            raise Unavailable(f"the result backend of queue {queue} is away until the queue is open")
        with entry.backend.in_use():
            return await call(entry.results) if entry.results is not None else None

    async def get_upload(self, queue: str, url: str, path: str) -> None:
        """
        Copy what was uploaded beside a queue to a local file.

        Raises:
            Unavailable: the queue is away just now.
            Refused: there is no such upload, nor could there be: the queue has no result backend.
        """

        async def get(results: Results) -> bool:
            await results.get_upload(url, path)
            return True

        if not await self.on_results(queue, get):
            raise Refused(f"{url}: its queue has no result backend, where uploads stand")

    def all(self) -> tuple[QueueEntry, ...]:
        """Return every entry, in order of arrival."""
        return tuple(self._entries.values())

    def queues(self) -> Mapping[str, QueueEntry]:
        """Return every entry by its queue's identity, in order of arrival."""
        return dict(self._entries)
