"""What the tests of the journal on disk need: one to open, and one that only reads."""

from __future__ import annotations

from pathlib import Path

from adapters.journal import JournalReader, SqliteJournal
from runner.records import JournalEntry
from tests.conformance.records import key_of

KEY = key_of("digits")


def open_in(directory: Path) -> SqliteJournal:
    return SqliteJournal(str(directory / "journal.db"), str(directory / "journal.key"))


async def read_in(directory: Path) -> tuple[JournalEntry, ...]:
    reader = JournalReader(str(directory / "journal.db"))
    try:
        return await reader.list(limit=100_000, ended=True)
    finally:
        await reader.close()
