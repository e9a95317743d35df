"""Following a job on this box: through the runner that runs, through the next one where it is restarted meanwhile."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

from runner.cli import paths
from runner.cli.log_sources import AGAIN_S, spooled
from runner.cli.output import say
from runner.errors import Unavailable
from runner.ports import Position
from runner.receipt import end_of

if TYPE_CHECKING:
    from pathlib import Path

    from runner.job import Key
    from runner.ports import LogLine
    from runner.receipt import Event
    from runner.records import JournalEntry


class Reader(Protocol):
    """Who reads; ``next`` is the position behind the last record that it took."""

    next: Position

    @property
    def wants_last(self) -> bool:
        """Tell whether all that there is must be read before anything is shown."""
        ...

    def take(self, told: LogLine | Event) -> None:
        """Take what comes next."""
        ...

    def caught_up(self) -> None:
        """Go on with what comes from now on."""
        ...


def follow_here(state: Path, job: str, reader: Reader) -> bool:
    """Follow a job of this box to its end; False where this box does not have it, or it has ended."""
    from adapters.http.client import ControlClient

    entry = asyncio.run(entry_of(state, job))
    if entry is None or entry.state == "ended":
        return False
    if reader.wants_last:
        asyncio.run(take_spool(state, entry.key, reader))
    reader.caught_up()
    client, lost = ControlClient(paths.control_socket(state)), False
    while True:
        try:
            for _, told in client.log(entry.key, _id_before(reader.next), follow=True):
                lost = False
                reader.take(told)
        except Unavailable as error:
            entry, before = asyncio.run(entry_of(state, entry.key)) or entry, lost
            lost = lost or _lose(state, entry, reader, error)
        else:
            _say_where(asyncio.run(entry_of(state, entry.key)))
            return True
        if entry.state == "ended":
            return _finish(state, entry, reader)
        time.sleep(AGAIN_S * before)


def _say_where(entry: JournalEntry | None) -> None:
    if entry is not None and entry.state == "lost":
        job = entry.claimed.claim.id
        say(f"another box has {job} now, and this one hears no more of it: runner logs -f --queue URL {job}")


def _lose(state: Path, entry: JournalEntry, reader: Reader, error: Unavailable) -> bool:
    """Read what the runner left, and wait for the next one."""
    asyncio.run(take_spool(state, entry.key, reader))
    if entry.state != "ended":
        say(f"{error}; waiting for the next one")
    return True


def _finish(state: Path, entry: JournalEntry, reader: Reader) -> bool:
    asyncio.run(take_spool(state, entry.key, reader))
    if entry.stored is not None:
        reader.take(end_of(entry.stored.receipt))
    return True


async def entry_of(state: Path, job: str) -> JournalEntry | None:
    """Return what this box knows of a job by its id or key."""
    from runner.cli.books import open_journal

    async with open_journal(state) as journal:
        return await journal.find(job)


async def take_spool(state: Path, key: Key, reader: Reader) -> None:
    """Read what stands in the spool behind what was read before."""
    from adapters.http.follow import told_by

    async for line in spooled(state, key, reader.next):
        reader.take(told_by(line))


def _id_before(position: Position) -> str:
    """Return the id of the record before a position, which is behind one, or the first."""
    return f"{position.attempt}-{position.sequence - 1}" if position.sequence else ""
