"""
A result backend in a directory: events, logs, receipts, archives, uploads, stop marks and beats of a queue's jobs.

Shared by any number of boxes and readers, on local disks and over NFS: each file has one writer, is created once or
replaced whole. Receipts and uploads survive a power cut once they were stored; all else survives the kill of any
process at any instant. Made at the first write, for its owner only; what was never written reads as empty.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Concatenate, ParamSpec, TypeVar
from urllib.parse import quote, unquote

import msgspec

from adapters.files import create_whole, explained, make_directory, names_in, remove_file, write_whole
from adapters.results.folder_follower import Follower
from adapters.results.folder_jobs import Jobs, archive_name, file_name, read_file
from adapters.results.folder_sweep import sweep
from adapters.results.folder_uploads import copy, get_upload, put_upload
from adapters.results.folder_writer import JobWriter
from adapters.results.reading import read_all
from adapters.results.rows import CLIENT, is_final
from adapters.worker import Worker
from runner.credential import Credential
from runner.errors import AlreadyStored, Refused
from runner.job import Key, safe_name
from runner.ports import LogLine, Position
from runner.receipt import BoxBeat, Event, JobRow, Receipt

P = ParamSpec("P")
T = TypeVar("T")

WRITERS_MAX = 1024
FOLLOW_WAIT_S = 1.0
BEAT_KEPT_S = 86400.0


class FolderResults:
    """
    The results in the directory ``root``; a folder queue's own are in its ``results``.

    ``box_id`` names this box's files, so no two boxes may share one; a client that only reads needs none.
    """

    def __init__(self, root: str, *, box_id: str = "") -> None:
        self._jobs = Jobs(os.path.normpath(root))
        self._box = safe_name(box_id or CLIENT)
        # What this box wrote of the jobs that it wrote last, so that nothing has to be read back to add to it.
        self._writers: OrderedDict[Key, JobWriter] = OrderedDict()
        self._calls = Worker(f"results {root}")
        # Copies of large files, which must not hold up receipts and beats.
        self._copies = Worker(f"copies {root}")

    async def append(self, key: Key, job_id: str, events: Sequence[Event], lines: Sequence[LogLine]) -> None:
        await self._call("append to results", self._append, key, job_id, events, lines)

    async def tail(self, job_id: str, position: Position, *, follow: bool) -> AsyncIterator[LogLine | Event]:
        follower = Follower(self._jobs, job_id, position)
        worker = Worker(f"tail {job_id}")
        try:
            while True:
                batch = await worker.run(self._read, follower, follow)
                for told in batch:
                    yield told
                if follower.ended or not (batch or follow):
                    return
        finally:
            follower.wake()
            worker.submit(follower.close)
            worker.shutdown()

    async def put_receipt(self, receipt: Receipt) -> None:
        await self._call("store receipt in results", self._put_receipt, receipt)

    async def put_log(self, key: Key, attempt: int, path: str) -> str:
        return await self._copy("store log in results", self._put_log, key, attempt, path)

    async def get_log(self, url: str, path: str) -> None:
        await self._copy("read log in results", self._get_log, url, path)

    async def get(self, job_id: str) -> Receipt | None:
        return await self._call("read receipt in results", self._get, job_id)

    async def list(self, *, ended: bool) -> tuple[JobRow, ...]:
        return await self._call("list results", self._list, ended)

    async def put_upload(self, path: str) -> str:
        return await self._copy("store upload in results", self._put_upload, path)

    async def get_upload(self, url: str, path: str) -> None:
        await self._copy("read upload in results", self._get_upload, url, path)

    async def request_stop(self, job_id: str) -> None:
        await self._call("set stop mark in results", self._mark, job_id)

    async def clear_stop(self, job_id: str) -> None:
        await self._call("clear stop mark in results", remove_file, self._jobs.path("stops", safe_name(job_id)))

    async def stops(self) -> frozenset[str]:
        return await self._call("read stop marks in results", self._marks)

    async def beat(self, beat: BoxBeat) -> None:
        await self._call("write beat into results", self._beat, beat)

    async def beats(self) -> tuple[BoxBeat, ...]:
        return await self._call("read signs of life in results", self._beats)

    async def change(self, credential: Credential) -> None:
        """A directory has no secrets."""

    async def prune(self, before: float) -> int:
        return await self._copy("prune results", self._prune, before)

    async def close(self) -> None:
        self._calls.shutdown()
        self._copies.shutdown()

    async def _call(self, doing: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        def call() -> T:
            with explained(doing, self._jobs.root):
                return function(*args, **kwargs)

        return await self._calls.run(call)

    async def _copy(
        self, doing: str, function: Callable[Concatenate[threading.Event, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a long call that stops between two reads when nobody waits for it any more."""
        stop = threading.Event()

        def call() -> T:
            with explained(doing, self._jobs.root):
                return function(stop, *args, **kwargs)

        try:
            return await self._copies.run(call)
        except asyncio.CancelledError:
            stop.set()
            raise

    def _append(self, key: Key, job_id: str, events: Sequence[Event], lines: Sequence[LogLine]) -> None:
        if self._jobs.enter(key, job_id):
            self._writers.pop(key, None)
        writer = self._writers.setdefault(key, JobWriter(self._jobs.path("jobs", key), self._box))
        self._writers.move_to_end(key)
        if len(self._writers) > WRITERS_MAX:
            self._writers.popitem(last=False)
        writer.add_lines(lines)
        writer.add_events(events)
        if any(map(is_final, events)):
            self._jobs.end(key)

    def _read(self, follower: Follower, follow: bool) -> Sequence[LogLine | Event]:  # noqa: FBT001 - called in a thread
        with explained("read log in results", self._jobs.root):
            batch = follower.read()
            if follow and not batch and not follower.ended:
                follower.wait(FOLLOW_WAIT_S)
                batch = follower.read()
            return batch

    def _put_receipt(self, receipt: Receipt) -> None:
        key = Key(receipt.key)
        self._jobs.enter(key, receipt.id)
        path = self._jobs.path("jobs", f"{key}/{file_name('receipt', receipt.attempt)}")
        if not create_whole(path, msgspec.json.encode(receipt)):
            raise AlreadyStored(f"receipt of {key}, attempt {receipt.attempt}: one is stored already")
        if receipt.state == "ended":
            self._jobs.end(key)

    def _put_log(self, stop: threading.Event, key: Key, attempt: int, path: str) -> str:
        make_directory(self._jobs.path("logs"))
        target = self._jobs.path("logs", archive_name(key, attempt, path))
        temporary = self._jobs.path("logs", f".{key}.{self._box}")
        remove_file(temporary)
        try:
            with contextlib.suppress(OSError):
                os.link(path, temporary)
            if not os.path.exists(temporary):
                copy(path, temporary, stop, durable=False)
            os.rename(temporary, target)
        finally:
            remove_file(temporary)
        return f"folder://{quote(target)}"

    def _get_log(self, stop: threading.Event, url: str, path: str) -> None:
        """Its name is what counts, wherever the box that stored it has mounted this directory."""
        source = self._jobs.path("logs", os.path.basename(unquote(url)))
        if not url.startswith("folder://"):
            raise Refused(f"{url}: it stands in another result backend: name the queue of its job, as with --queue")
        if not os.path.isfile(source):
            raise Refused(f"{url}: there is no such archive any more")
        remove_file(path)
        copy(source, path, stop, durable=False)

    def _get(self, job_id: str) -> Receipt | None:
        key = self._jobs.find(job_id)
        return None if key is None else self._jobs.receipt(key)

    def _list(self, ended: bool) -> tuple[JobRow, ...]:  # noqa: FBT001 - called in a thread
        rows = [row for row in map(self._jobs.row, self._jobs.keys(ended=ended)) if row is not None]
        wanted = [row for row in rows if ended or row[1].state != "ended"]
        return tuple(row for _, row in sorted(wanted, key=lambda item: item[0], reverse=True))

    def _put_upload(self, stop: threading.Event, path: str) -> str:
        return put_upload(path, self._jobs.path("uploads"), stop)

    def _get_upload(self, stop: threading.Event, url: str, path: str) -> None:
        with explained("copy upload", path):
            get_upload(url, self._jobs.path("uploads"), path, stop)

    def _mark(self, job_id: str) -> None:
        make_directory(self._jobs.path("stops"))
        write_whole(self._jobs.path("stops", safe_name(job_id)), os.fsencode(job_id))

    def _marks(self) -> frozenset[str]:
        contents = (read_file(self._jobs.path("stops", name)) for name in names_in(self._jobs.path("stops")))
        return frozenset(os.fsdecode(content) for content in contents if content)

    def _beat(self, beat: BoxBeat) -> None:
        make_directory(self._jobs.path("beats"))
        write_whole(self._jobs.path("beats", safe_name(beat.box)), msgspec.json.encode(beat), durable=False)

    def _beats(self) -> tuple[BoxBeat, ...]:
        contents = (read_file(self._jobs.path("beats", name)) for name in sorted(names_in(self._jobs.path("beats"))))
        return tuple(beat for beat in read_all(contents, BoxBeat) if time.time() - beat.at < BEAT_KEPT_S)

    def _prune(self, _: threading.Event, before: float) -> int:
        return sweep(self._jobs, before)
