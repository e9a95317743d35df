"""
The watched directory: one poller per queue behind each credential file. Never reads a queue.

Events are hints; the truth is a scan with content digests. A broken file is reported once per change, by its name and
reason, and leaves the others alone.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import assert_never

import msgspec

from runner.config import Config
from runner.credential import Credential, CredentialFile
from runner.errors import RunnerError
from runner.messages import QueueClosed, QueueStateTold, SourcesAsked, StopFetching
from runner.ports import World
from runner.source import BrokenFiles, Pollers, Source, StandingPoller
from runner.stage import FaultBudget, Stage

logger = logging.getLogger(__name__)

LIST_EVERY_S = 5.0


class _Scanned(msgspec.Struct, frozen=True):
    """Self: what the directory holds now."""

    files: tuple[CredentialFile, ...]


class _Listed(msgspec.Struct, frozen=True):
    """Self: the queues behind a file; ``reason`` where they could not be listed."""

    file: str
    content: str
    queues: tuple[str, ...] = ()
    reason: str = ""


class _Closed(msgspec.Struct, frozen=True):
    """Self: a poller is gone."""

    source: str
    queue: str


SourcesMessage = SourcesAsked | QueueStateTold | QueueClosed | StopFetching | _Scanned | _Listed | _Closed


class Sources(Stage[SourcesMessage]):
    """Keeps pollers in step with credential files."""

    name = "sources"

    def __init__(
        self, config: Config, world: World, faults: FaultBudget, *, own: tuple[CredentialFile, ...], pollers: Pollers
    ) -> None:
        super().__init__(config, world, faults)
        self._own, self._pollers = own, pollers
        self._match = re.compile(config.queue_match) if config.queue_match else None
        self._mismatch = re.compile(config.queue_mismatch) if config.queue_mismatch else None
        self._sources: dict[str, Source] = {}
        self._broken = BrokenFiles()
        self._wanted: dict[str, CredentialFile] = {}
        self._stopping = False

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Take over what stands, watch, and list queues anew now and then: some appear later."""
        for poller in self._pollers.standing():
            self._take_over(poller)
        for poller in self._pollers.ending():
            self._end_soon(QueueClosed(poller.file.file, poller.queue))
        self.start_soon(self._watch, name="watch")
        self.start_soon(self._list_loop, name="list")
        yield

    def _take_over(self, poller: StandingPoller) -> None:
        """Know a poller again that outlived its sources; it is told anew whatever its file says, or that it is gone."""
        unlike_any = msgspec.structs.replace(poller.file, content="")
        source = self._sources.setdefault(poller.file.file, Source(unlike_any, poller.credential, poller.broker))
        source.add(poller.queue)

    async def receive(self, message: SourcesMessage) -> None:
        """Handle one message."""
        match message:
            case _Scanned():
                self._scanned(message.files)
            case _Listed():
                self._listed(message)
            case QueueStateTold():
                source = self._sources.get(message.source)
                if source is not None:
                    source.told(message.queue, message.state, message.depth)
            case QueueClosed():
                self._close_poller(message)
            case _Closed():
                await self._closed(message)
            case StopFetching():
                self._stopping = True
                for source in self._sources.values():
                    self._finish(source)
            case SourcesAsked():
                message.reply.answer(self._broken.table(self._sources.values()))
            case _:
                assert_never(message)

    async def _watch(self) -> None:
        """Scan at start and at every hint."""
        while True:
            try:
                await self._scan()
                async for _ in self.world.credentials.changes():
                    await self._scan()
            except RunnerError as error:
                logger.warning("credentials cannot be read", extra={"action": "scan", "reason": str(error)})
            await asyncio.sleep(1.0)

    async def _scan(self) -> None:
        files = await self.caller.once(self.world.credentials.scan, "scan of the credentials")
        self.ref.urgent(_Scanned((*self._own, *files)))

    # Files come, change and go

    def _scanned(self, files: tuple[CredentialFile, ...]) -> None:
        if self._stopping:
            return
        self._wanted = {file.file: file for file in files}
        for name, source in self._sources.items():
            if name not in self._wanted:
                self._finish(source)
        for file in files:
            self._apply(file)
        self._broken.keep_only(self._wanted)

    def _apply(self, file: CredentialFile) -> None:
        source = self._sources.get(file.file)
        if file.credential is None:
            # What it said before stands until it says something else, or goes: an editor may be at work.
            self._broken.report(file, file.reason)
            return
        self._broken.mended(file.file)
        if source is None:
            self._open(file, file.credential)
        elif source.file.content != file.content or source.finishing:
            self._change(source, file, file.credential)

    def _open(self, file: CredentialFile, credential: Credential) -> None:
        try:
            broker = self._pollers.open(credential)
        except RunnerError as error:
            self._broken.report(file, str(error))
            return
        if file.warning:
            logger.warning("credential file", extra={"action": "scan", "source": file.file, "reason": file.warning})
        self._sources[file.file] = Source(file, credential, broker)
        self._list_soon(file.file)

    def _change(self, source: Source, file: CredentialFile, credential: Credential) -> None:
        """New rights go to the pollers at once; another service is another source, opened when the old one is done."""
        if not source.serves_as(credential):
            self._finish(source)
            return
        source.file, source.credential, source.finishing = file, credential, False
        for queue in source.rows:
            self._pollers.change(file, credential, queue)

    def _finish(self, source: Source) -> None:
        if source.finishing:
            return
        source.finishing = True
        for queue in source.rows:
            self._pollers.finish(source.file.file, queue)
        if not source.rows:
            self.ref.urgent(_Closed(source.file.file, ""))

    # Queues behind a file

    async def _list_loop(self) -> None:
        while True:
            await asyncio.sleep(LIST_EVERY_S)
            await self._pollers.close_unnamed([source.broker for source in self._sources.values()])
            for name in tuple(self._sources):
                self._list_soon(name)

    def _list_soon(self, name: str) -> None:
        source = self._sources[name]
        task = f"list {name}"
        if not source.finishing and not self.has_task(task):
            self.start_soon(self._list, source, name=task)

    async def _list(self, source: Source) -> None:
        file = source.file
        try:
            queues = await self.caller.once(source.broker.queues, f"queues behind {file.file}")
            self.ref.urgent(_Listed(file.file, file.content, queues))
        except RunnerError as error:
            self.ref.urgent(_Listed(file.file, file.content, reason=str(error)))

    def _listed(self, message: _Listed) -> None:
        source = self._sources.get(message.file)
        if source is None or source.finishing or source.file.content != message.content:
            return
        source.reason = message.reason
        for queue in message.queues:
            if queue not in source.rows and self._wants(queue):
                self._pollers.start(source.add(queue))

    def _wants(self, queue: str) -> bool:
        matches = self._match is None or self._match.search(queue) is not None
        return matches and not (self._mismatch is not None and self._mismatch.search(queue))

    def _close_poller(self, message: QueueClosed) -> None:
        source = self._sources.get(message.source)
        if source is not None and source.finishing and message.queue in source.rows:
            self._end_soon(message)

    def _end_soon(self, message: QueueClosed) -> None:
        task = f"close {message.source} {message.queue}"
        if not self.has_task(task):
            self.start_soon(self._end_poller, message, name=task)

    async def _end_poller(self, message: QueueClosed) -> None:
        await self._pollers.end(message.source, message.queue)
        self.ref.urgent(_Closed(message.source, message.queue))

    async def _closed(self, message: _Closed) -> None:
        """Forget a source with its last poller; the file may stand there again meanwhile."""
        source = self._sources.get(message.source)
        if source is None:
            return
        source.rows.pop(message.queue, None)
        if source.finishing and not source.rows:
            del self._sources[message.source]
            self.cancel_task(f"list {message.source}")
            wanted = self._wanted.get(message.source)
            if wanted is not None and not self._stopping:
                self._apply(wanted)
