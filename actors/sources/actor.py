"""
The watched directory: one poller per queue behind each credential file. Never reads a queue.

Events are hints; the truth is a scan with content digests. A broken file is reported once per change, by its name and
reason, and leaves the others alone; a service that does not answer, or refuses us, is asked again with back-off.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import assert_never

import msgspec

from actors.sources.known import KnownSources
from actors.sources.services import Failed, Listed, Moved, Services
from actors.sources.watching import watch
from runner.broken_files import BrokenFiles
from runner.config import Config
from runner.credential import Credential, CredentialFile
from runner.errors import RunnerError
from runner.messages import QueueClosed, QueueStateTold, SourcesAsked, StopFetching
from runner.pattern import finds
from runner.ports import World
from runner.quiet import Quiet
from runner.source import Pollers, Source
from runner.stage import FaultBudget, Stage

logger = logging.getLogger(__name__)

TIDY_EVERY_S = 5.0


class _Scanned(msgspec.Struct, frozen=True):
    """Self: what the directory holds now."""

    files: tuple[CredentialFile, ...]


class _Closed(msgspec.Struct, frozen=True):
    """Self: a poller is gone."""

    source: str
    queue: str


_Told = SourcesAsked | QueueStateTold | QueueClosed | StopFetching
SourcesMessage = _Told | _Scanned | Listed | Failed | Moved | _Closed


class Sources(Stage[SourcesMessage]):
    """Keeps pollers in step with credential files."""

    name = "sources"

    def __init__(
        self,
        config: Config,
        world: World,
        faults: FaultBudget,
        *,
        own: tuple[CredentialFile, ...],
        pollers: Pollers,
        quiet: Quiet,
    ) -> None:
        super().__init__(config, world, faults, quiet)
        self._own, self._pollers = own, pollers
        self._sources = KnownSources()
        self._broken = BrokenFiles()
        self._wanted: dict[str, CredentialFile] = {}
        # What the last scan found that names no queues: others use it, and it is only shown.
        self._queueless: tuple[CredentialFile, ...] = ()
        self._stopping = False

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Take over what stands, watch, and close now and then what nobody names any more."""
        self._services = Services(self.caller, self.world.random, self._pollers, self.ref, self.quiet)
        for poller in self._pollers.standing():
            self._sources.take_over(poller)
        for source in self._sources:
            if source.replaced:
                self._finish(source)
        for poller in self._pollers.ending():
            self._end_soon(QueueClosed(poller.source, poller.queue))
        self.start_soon(watch, self.world.credentials, self.caller, self.quiet, self._look_at, name="watch")
        self.start_soon(self._tidy, name="tidy")
        yield

    async def receive(self, message: SourcesMessage) -> None:
        """Handle one message."""
        match message:
            case _Scanned():
                self._scanned(message.files)
            case Listed():
                self._listed(message)
            case Failed():
                self._failed(message)
            case Moved():
                self._moved(message)
            case QueueStateTold():
                if (source := self._sources.find(message.source)) is not None:
                    source.told(message.queue, message.state, message.depth, message.warning)
            case QueueClosed():
                self._close_poller(message)
            case _Closed():
                self._closed(message)
            case StopFetching():
                self._finish_all()
            case SourcesAsked():
                message.reply.answer(self._broken.table(self._sources, self._queueless))
            case _:
                assert_never(message)

    def _look_at(self, files: tuple[CredentialFile, ...]) -> None:
        self.ref.urgent(_Scanned((*self._own, *files)))

    def _finish_all(self) -> None:
        self._stopping = True
        for source in self._sources:
            self._finish(source)

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(TIDY_EVERY_S)
            await self._pollers.close_unnamed([source.broker for source in self._sources])

    # Files come, change and go

    def _scanned(self, found: tuple[CredentialFile, ...]) -> None:
        self._queueless = tuple(file for file in found if not file.has_queues)
        files = tuple(file for file in found if file.has_queues)
        self._wanted = {file.file: file for file in files}
        for source in () if self._stopping else self._sources:
            if source.file.file not in self._wanted:
                renamed = any(file.credential == source.credential for file in files)
                self._finish(source, cancel=self.config.on_removed == "cancel" and not renamed)
        for file in files:
            self._apply(file)
        self._broken.keep_only(self._wanted)

    def _apply(self, file: CredentialFile) -> None:
        source = self._sources.serving(file.file)
        if file.credential is None:
            # What it said before stands until it says something else, or goes: an editor may be at work.
            self._broken.report(file, file.reason)
            return
        if source is None:
            if not self._stopping:
                self._open(file, file.credential)
            return
        if source.file.content != file.content or (source.finishing and not self._stopping):
            self._change(source, file, file.credential)
        else:
            self._broken.mended(file.file)

    def _open(self, file: CredentialFile, credential: Credential) -> Source | None:
        try:
            broker = self._pollers.open(credential)
        except RunnerError as error:
            self._broken.report(file, str(error))
            return None
        self._broken.mended(file.file)
        if file.warning:
            logger.warning("credential file", extra={"action": "scan", "source": file.file, "reason": file.warning})
        source = self._sources.add(Source(self._sources.new_name(file.file), file, credential, broker))
        self._list_soon(source)
        return source

    def _change(self, source: Source, file: CredentialFile, credential: Credential) -> None:
        """
        Let pollers have new rights at once, and connections new secrets; another service is another source beside the
        old one, which finishes. While the runner stops, that holds for what settles still.
        """
        if not source.serves_as(credential):
            self._replace(source, file, credential)
            return
        self._broken.mended(file.file)
        source.take(file, credential)
        for queue in tuple(source.rows):
            if self._wants(source, queue):
                source.leaving.discard(queue)
                self._pollers.change(source.poller(queue))
            else:
                self._leave(source, queue)
        if self._stopping:
            self._finish(source)
        self._move_soon(source)

    def _replace(self, source: Source, file: CredentialFile, credential: Credential) -> None:
        """Open what a file says now, whose pollers take over from those that finish; until it opens, the old stands."""
        opened = self._open(file, credential)
        if opened is None:
            return
        source.replaced = True
        self._finish(source)
        if self._stopping:
            for queue in source.rows:
                self._pollers.start(opened.add(queue))
            self._finish(opened)

    def _move_soon(self, source: Source) -> None:
        """Let what is open have the secrets that the file says now, then list with them; the latest win."""
        self.cancel_task(f"move {source.name}")
        if source.is_connected():
            self._list_soon(source)
        else:
            self.start_soon(self._services.move, source, name=f"move {source.name}")

    def _moved(self, message: Moved) -> None:
        if (source := self._sources.find(message.source)) is not None:
            source.connected = message.credential
            self._list_soon(source)

    def _finish(self, source: Source, *, cancel: bool = False) -> None:
        if source.finishing and source.cancelled >= cancel:
            return
        source.finishing, source.cancelled = True, cancel
        self.cancel_task(f"list {source.name}")
        for queue in source.rows:
            self._pollers.finish(source.name, queue, cancel=cancel)
        if not source.rows:
            self.ref.urgent(_Closed(source.name, ""))

    # Queues behind a file

    def _list_soon(self, source: Source) -> None:
        source.again.set()
        task = f"list {source.name}"
        if not source.finishing and not self.has_task(task):
            self.start_soon(self._services.list_regularly, source, name=task)

    def _listed(self, message: Listed) -> None:
        source = self._sources.in_use(message.source, message.content)
        if source is None:
            return
        steps = source.listed(message.queues, lambda queue: self._wants(source, queue))
        for queue in steps.begin:
            self._pollers.start(source.add(queue))
        for queue in steps.resume:
            source.leaving.discard(queue)
            self._pollers.change(source.poller(queue))
        for queue in steps.leave:
            self._leave(source, queue)

    def _failed(self, message: Failed) -> None:
        if (source := self._sources.in_use(message.source, message.content)) is not None:
            source.failed(message.reason, refused=message.refused)

    def _wants(self, source: Source, queue: str) -> bool:
        return finds(self.config.queue_match, self.config.queue_mismatch, queue) and source.wants(queue)

    def _leave(self, source: Source, queue: str) -> None:
        """Read a queue no more while its file stands: it is gone, or is not meant."""
        source.leaving.add(queue)
        self._pollers.finish(source.name, queue)

    def _close_poller(self, message: QueueClosed) -> None:
        source = self._sources.find(message.source)
        if (
            source is not None
            and message.queue in source.rows
            and (source.finishing or message.queue in source.leaving or message.taken_over)
        ):
            self._end_soon(message)

    def _end_soon(self, message: QueueClosed) -> None:
        task = f"close {message.source!r} {message.queue!r}"
        if not self.has_task(task):
            self.start_soon(self._end_poller, message, name=task)

    async def _end_poller(self, message: QueueClosed) -> None:
        await self._pollers.end(message.source, message.queue)
        self.ref.urgent(_Closed(message.source, message.queue))

    def _closed(self, message: _Closed) -> None:
        """Forget a source with its last poller; the file may stand there again meanwhile."""
        source = self._sources.find(message.source)
        if source is None:
            return
        source.remove(message.queue)
        if not source.finishing:
            self._list_soon(source)
        elif not source.rows:
            self._sources.forget(source)
            self.cancel_task(f"move {source.name}")
            wanted = self._wanted.get(source.file.file)
            if wanted is not None and not self._stopping:
                self._apply(wanted)
