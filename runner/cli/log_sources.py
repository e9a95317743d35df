"""
Where a job's log is read: the spool on this box, the result backend of its queue, the archives of its attempts.

What a result backend no longer has, since it keeps the newest part of a long log only, comes from the archives.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from runner.cli import paths
from runner.cli.output import say
from runner.errors import Refused, Unavailable
from runner.ports import LogLine, Position
from runner.receipt import Event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from runner.job import Key
    from runner.ports import Results
    from runner.receipt import Receipt

    Told = LogLine | Event

LATE_S = 20.0
"""A box waits for less between two tries to send something."""
AGAIN_S = 1.0
GONE_S = 600.0
"""A result backend that did not answer for so long is not waited for any more."""
_ATTEMPT = re.compile(r"~(\d+)(?=[^~/]*\Z)")


async def spooled(state: Path, key: Key, position: Position = Position()) -> AsyncIterator[LogLine]:  # noqa: B008
    """Yield what stands in the spool on this box; state changes as they stand there, in stream ``event``."""
    from adapters.spool import FileSpool

    spool = FileSpool(str(paths.spools(state)), time.time_ns)
    while lines := await spool.read(key, position):
        for line in lines:
            yield line
        position = lines[-1].next


async def resumed(results: Results, key: Key, position: Position) -> AsyncIterator[Told]:
    """Follow a job in a result backend to its end, also through a while without an answer."""
    lost_at: float | None = None
    while True:
        try:
            async for told in results.tail(key, position, follow=True):
                position, lost_at = told.next if isinstance(told, LogLine) else position, None
                yield told
        except Unavailable as error:
            if lost_at is None:
                say(f"{error}; waiting for it to come back")
            lost_at = lost_at or time.monotonic()
            if time.monotonic() - lost_at > GONE_S:
                raise
            await asyncio.sleep(AGAIN_S)
        else:
            return


async def up_to_its_end(log: AsyncIterator[Told], limit_s: float) -> AsyncIterator[Told]:
    """Follow a job that has ended: a box sends the last of a log after the receipt, or may never come to it."""
    while True:
        try:
            async with asyncio.timeout(limit_s):
                told = await anext(log, None)
        except TimeoutError:
            return
        if told is None:
            return
        yield told


class Archives:
    """The archives of a job's attempts, each copied here when it is asked for."""

    def __init__(self, results: Results, receipt: Receipt) -> None:
        """Ask this result backend; the receipt is that of the last attempt that has one."""
        self._results = results
        self._url, self.attempts = receipt.log.url, receipt.attempt if receipt.log.url else 0
        # Why the last one that was asked for cannot be had.
        self.problem = ""

    async def lines(self, position: Position) -> AsyncIterator[LogLine]:
        """
        Yield what an attempt wrote from a position on; nothing where its archive is no longer kept, or is of an earlier
        version, which does not say where its records begin, and the position is in its midst.
        """
        from adapters.spool_archive import archive_lines, is_complete

        url = self._url_of(position.attempt)
        with tempfile.TemporaryDirectory(prefix="runner-log-") as scratch:
            archive = Path(scratch) / "log.gz"
            try:
                await self._results.get_log(url, str(archive))
            except Refused as error:
                self.problem = str(error)
                return
            if position.sequence and not is_complete(str(archive)):
                return
            with _named(str(archive), url):
                for line in archive_lines(str(archive), position):
                    if line.stream != "event":  # result backends have those
                        yield line

    def _url_of(self, attempt: int) -> str:
        """Archives of one job differ in the number of the attempt alone."""
        return _ATTEMPT.sub(lambda found: f"~{attempt:0{len(found[1])}d}", self._url)


@contextmanager
def _named(copy: str, url: str) -> Iterator[None]:
    """Name an archive that is damaged by where it stands, not by its copy here."""
    try:
        yield
    except Refused as error:
        raise Refused(str(error).replace(copy, url)) from error


class HealedLog:
    """
    A log from a result backend, with what is missing there from the archives.

    That is what a record of stream ``gap`` stands for, an attempt of which there is nothing, and the end of a log that
    the box has not sent.
    """

    def __init__(self, log: AsyncIterator[Told], archives: Archives) -> None:
        """Begin at the beginning; ``log`` yields all that the result backend has."""
        self._log = log
        self._archives = archives
        # The next record wanted.
        self._wanted = Position()
        # The attempt that was told from its archive, which is whole.
        self._archived = 0
        # Whether what was told last is the end of what the job wrote.
        self.whole = False

    async def read(self) -> AsyncIterator[Told]:
        """Yield it, the end of the job last."""
        end: Event | None = None
        async for told in self._log:
            if isinstance(told, Event) and told.state == "ended":
                end, self.whole = told, True
                continue
            async for line in self._attempts_before(told.attempt):
                yield line
            if isinstance(told, Event):
                yield told
                continue
            async for line in self._with(told):
                yield line
        async for line in self._rest():
            yield line
        if end is not None:
            yield end

    async def _attempts_before(self, attempt: int) -> AsyncIterator[LogLine]:
        """Yield those of which nothing was told."""
        for untold in range(self._wanted.attempt, min(attempt, self._archives.attempts + 1)):
            if self._wanted <= Position(untold):
                self._wanted = Position(untold)
                async for line in self._from_archive():
                    yield line
        self._wanted = max(self._wanted, Position(attempt))

    async def _with(self, told: LogLine) -> AsyncIterator[LogLine]:
        """Yield a record, or what its archive has instead where something is missing before it."""
        if told.stream == "gap" and told.attempt != self._archived:
            async for line in self._from_archive():
                yield line
        if told.attempt != self._archived:
            self._wanted = told.next
            yield told

    async def _rest(self) -> AsyncIterator[LogLine]:
        if self._wanted.sequence and (self.whole or self._archived == self._wanted.attempt):
            self._wanted = Position(self._wanted.attempt + 1)
        while self._wanted.attempt <= self._archives.attempts:
            async for line in self._from_archive():
                yield line
            self._wanted = Position(self._wanted.attempt + 1)
        self.whole = self.whole or 0 < self._archived == self._archives.attempts

    async def _from_archive(self) -> AsyncIterator[LogLine]:
        if self._wanted.attempt <= self._archives.attempts:
            async for line in self._archives.lines(self._wanted):
                self._wanted, self._archived = line.next, line.attempt
                yield line
