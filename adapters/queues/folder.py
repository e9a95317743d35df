"""
Queues in directories: durable, shared by any number of boxes, with nothing to install.

Safe when any process is killed at any instant, on local disks and over NFS, because each step is one rename or unlink.
A message that ``put`` returned for survives a power cut; so do notes and dead letters. Claims and acknowledgements are
not waited for on the disk: after a power cut a message that was acknowledged last may be delivered once more.

``folder:///path`` is the queue in that directory; where it holds no queue itself, it stands for all directories in it
that are queues. ``folder:///path?queue=train`` is the one in ``/path/train``. A queue is made at its first use, for its
owner only; any regular file that is moved or copied into its ``ready`` directory is a message, too.

Calls run in two threads of the queue's own, one for ``fetch`` and one for the rest, so that a file server that hangs
holds up this queue and not the event loop. The hop costs about 30 µs; a rename on a local disk costs as much.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar

from adapters.files import explained, remove_file, sync_directory, write_new
from adapters.queues.folder_claims import Claims
from adapters.queues.folder_clock import FileSystemClock, QueueClock
from adapters.queues.folder_dead import DeadLetters
from adapters.queues.folder_layout import Layout, is_queue, open_layout, queue_directory, queues_in
from adapters.queues.folder_names import name_message, token_message, user_tag
from adapters.queues.folder_notes import Notes
from adapters.queues.folder_peek import queued_messages
from adapters.queues.folder_waiting import Waiting
from adapters.watch import Watch
from adapters.worker import Worker
from runner.credential import Credential
from runner.errors import NoSuchQueue
from runner.job import Note, Verdict, safe_name
from runner.ports import NOBODY, DeadLetterRow, Delivery, QueuedMessage

P = ParamSpec("P")
T = TypeVar("T")


class FolderBroker:
    """
    The queues behind one ``folder:`` URL.

    ``single`` says that ``root`` is one queue, made at its first use; else it may also be the parent of several.
    ``now`` gives epoch seconds for submission and rejection times; leases and delays go by ``clock``, by default the
    file system's own. ``box_id`` names this box's files, empty for a client.
    """

    def __init__(
        self,
        root: str,
        *,
        box_id: str,
        now: Callable[[], float],
        lease_s: float,
        single: bool,
        clock: QueueClock | None = None,
    ) -> None:
        self._root = os.path.normpath(root)
        self._box_id = box_id
        self._now = now
        self._lease_s = lease_s
        self._single = single
        self._clock = clock
        self._worker = Worker(f"folder {root}")

    async def queues(self) -> tuple[str, ...]:
        """List the root itself where it is a queue, or is not there yet; else the queues in it."""
        return await self._worker.run(self._list)

    async def open(self, name: str, *, make: bool = True) -> FolderQueue:
        """
        Open a queue, made where it is not there.

        Raises:
            NoSuchQueue: it is not there and is not to be made.
            ConfigurationError: the directory is something else, cannot be written, or the name is a path.
            OutOfSpace: it cannot be made.
        """
        layout = await self._worker.run(self._open, name, make=make)
        clock = self._clock or FileSystemClock(layout.path("tmp", f"clock-{safe_name(self._box_id or 'client')}"))
        return FolderQueue(name, layout, clock=clock, now=self._now, lease_s=self._lease_s)

    async def change(self, credential: Credential) -> None:
        """A directory has no secrets."""

    async def close(self) -> None:
        self._worker.shutdown()

    def _list(self) -> tuple[str, ...]:
        with explained("list queues", self._root):
            if self._single or is_queue(self._root) or not os.path.exists(self._root):
                return (os.path.basename(self._root),)
            return queues_in(self._root)

    def _open(self, name: str, *, make: bool) -> Layout:
        root = self._root if self._single else queue_directory(self._root, name)
        if not make and not is_queue(root):
            raise NoSuchQueue(f"there is no queue at {root}")
        return open_layout(root)


class FolderQueue:
    """One open queue directory. ``notices`` may be switched off: arrivals are then seen 25 ms late."""

    by_user = True
    release_costs = ends_claims = False
    warning = ""

    def __init__(
        self,
        name: str,
        layout: Layout,
        *,
        clock: QueueClock,
        now: Callable[[], float],
        lease_s: float,
        notices: bool = True,
    ) -> None:
        self.name = name
        self.identity = layout.identity
        self.lease_s = lease_s
        self._layout = layout
        self._now = now
        notes = Notes(layout)
        self._claims = Claims(layout, notes, clock=clock, now=now, lease_s=lease_s)
        self._waiting = Waiting(layout, notes, clock=clock, now=now, lease_s=lease_s, holds=self._claims.holds)
        self._dead = DeadLetters(layout, notes, clock=clock, now=now)
        self._count = itertools.count()
        # Ends the pause of a waiting fetch: something arrived, or it shall stop.
        self._watch = Watch(layout.path("ready"), notices=notices)
        self._closed = False
        self._fetching = Worker(f"fetch {layout.root}")
        self._calling = Worker(f"queue {layout.root}")

    async def fetch(self, wait_s: float, served: Mapping[str, float] = NOBODY) -> Delivery | None:
        handover = _Handover()
        try:
            await self._fetching.run(self._fetch, handover, wait_s, served)
        except asyncio.CancelledError:
            delivery = handover.abandon()
            self._watch.wake()
            if delivery is not None:
                self._calling.submit(self._give_back, delivery.token)
            raise
        return handover.delivery

    async def renew(self, token: str) -> None:
        await self._call("renew a claim in queue", self._claims.renew, token)

    def recall(self, token: str, body: bytes, note: Note) -> None:
        """What was claimed lies in its file."""

    async def settle(self, token: str, verdict: Verdict, *, after_s: float, note: Note, reason: str) -> None:
        await self._call("settle in queue", self._settle, token, verdict, after_s, note, reason)

    async def put(self, body: bytes, *, job_id: str, user: str = "", priority: int = 0, submission: str = "") -> str:
        submission = submission or f"{next(self._count) & 0xFFFFFFFF:08x}{secrets.token_hex(8)}"
        name = name_message(priority=priority, at=self._now(), submission=submission, user=user, job_id=job_id)
        await self._call("put into queue", self._put, name, body)
        return submission

    async def withdraw(self, job_id: str) -> tuple[Delivery, ...]:
        return await self._call("withdraw from queue", self._withdraw, job_id)

    async def depth(self) -> int:
        return await self._call("count queue", self._waiting.count)

    async def peek(self, limit: int) -> tuple[QueuedMessage, ...] | None:
        return await self._call("look into queue", queued_messages, self._layout.root, limit)

    async def dead(self) -> tuple[DeadLetterRow, ...]:
        return await self._call("list dead letters of queue", self._dead.rows)

    async def retry_dead(self, submission: str) -> bool:
        return await self._call("retry a dead letter of queue", self._retry_dead, submission)

    async def drop_dead(self, submission: str) -> bool:
        return await self._call("drop a dead letter of queue", self._dead.drop, submission)

    async def prune(self, before: float) -> int:
        return await self._call("prune queue", self._dead.prune, before)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._watch.wake()
        self._fetching.submit(self._watch.close)
        self._fetching.shutdown()
        self._calling.shutdown()

    async def _call(self, doing: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        def call() -> T:
            with explained(doing, self._layout.root):
                return function(*args, **kwargs)

        return await self._calling.run(call)

    def _fetch(self, handover: _Handover, wait_s: float, served: Mapping[str, float]) -> None:
        by_tag = {user_tag(user): seconds for user, seconds in served.items()}
        ends_at = time.monotonic() + wait_s
        with explained("fetch from queue", self._layout.root):
            while not (self._closed or handover.abandoned):
                delivery = self._take_next(by_tag)
                if delivery is not None and not handover.give(delivery):
                    self._give_back(delivery.token)
                left_s = ends_at - time.monotonic()
                if delivery is not None or left_s <= 0:
                    return
                self._watch.wait(left_s)

    def _take_next(self, served: Mapping[str, float]) -> Delivery | None:
        while (name := self._waiting.next(served)) is not None:
            delivery = self._claims.take(name)
            if delivery is not None:
                return delivery
        return None

    def _withdraw(self, job_id: str) -> tuple[Delivery, ...]:
        taken = [self._claims.take(name, part) for part, name in self._waiting.of_job(job_id)]
        return tuple(delivery for delivery in taken if delivery is not None)

    def _give_back(self, token: str) -> None:
        self._arrived(self._claims.give_back(token))

    def _settle(self, token: str, verdict: Verdict, after_s: float, note: Note, reason: str) -> None:
        self._claims.settle(token, verdict, after_s=after_s, note=note, reason=reason)
        if verdict not in {Verdict.RETRY, Verdict.RELEASE}:
            return
        if after_s > 0:
            self._waiting.expect(after_s)
        else:
            self._arrived(token_message(token))

    def _put(self, name: str, body: bytes) -> None:
        temporary = self._layout.path("tmp", name)
        try:
            write_new(temporary, body)
            os.rename(temporary, self._layout.path("ready", name))
        except OSError:
            remove_file(temporary)
            raise
        sync_directory(self._layout.path("ready"))
        self._arrived(name)

    def _retry_dead(self, submission: str) -> bool:
        name = self._dead.retry(submission)
        if name is not None:
            self._arrived(name)
        return name is not None

    def _arrived(self, name: str) -> None:
        self._waiting.add(name)
        self._watch.wake()


class _Handover:
    """Passes one delivery from the fetching thread to a caller that may go away at any moment."""

    def __init__(self) -> None:
        self.delivery: Delivery | None = None
        self.abandoned = False
        self._lock = threading.Lock()

    def give(self, delivery: Delivery) -> bool:
        """Hand it over; False where the caller is gone."""
        with self._lock:
            if not self.abandoned:
                self.delivery = delivery
            return not self.abandoned

    def abandon(self) -> Delivery | None:
        """Leave; return what was handed over already."""
        with self._lock:
            self.abandoned = True
            return self.delivery
