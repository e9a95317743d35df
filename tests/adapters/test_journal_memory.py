"""What the journal does in place: it remembers what stands in the file, and never waits."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from adapters.journal import SqliteJournal
from runner.records import JournalRecord, PlaceRecord
from tests.conformance.records import FAULT, ON_THE_WAY, claim, key_of, stored

KEY = key_of("digits")
LIVES: dict[str, tuple[JournalRecord, ...]] = {
    "all the way": (claim(), FAULT, *ON_THE_WAY),
    "delivered twice": (claim(), *ON_THE_WAY[:3], claim(token="token-2"), *ON_THE_WAY[3:]),
    "tried again": (claim(), FAULT, *ON_THE_WAY, claim(attempt=2), *ON_THE_WAY),
    "a later attempt in flight": (claim(), FAULT, *ON_THE_WAY[:5], claim(attempt=2), *ON_THE_WAY),
    "lost": (claim(), *ON_THE_WAY[:4], stored(None), claim(at=300.0), *ON_THE_WAY),
}


def open_in(directory: Path) -> SqliteJournal:
    return SqliteJournal(str(directory / "journal.db"), str(directory / "journal.key"))


@pytest.mark.parametrize("life", LIVES)
def test_what_is_remembered_is_what_the_file_holds(tmp_path: Path, life: str) -> None:
    """After every record: one journal wrote it, another one on the same file can only read."""

    async def main() -> None:
        writing, reading = open_in(tmp_path), open_in(tmp_path)
        for record in LIVES[life]:
            await writing.append(KEY, record)
            entry = await writing.entry(KEY)
            assert entry is not None
            assert await reading.entry(KEY) == entry
        await reading.close()
        await writing.close()

    asyncio.run(main())


def test_a_record_that_meets_another_program_waits_without_holding_the_loop_up(tmp_path: Path) -> None:
    """As while somebody backs the file up: others go on, and the record is written when the file is free."""

    async def main() -> None:
        journal = open_in(tmp_path)
        await journal.append(KEY, claim())
        with closing(sqlite3.connect(tmp_path / "journal.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            began = asyncio.get_running_loop().time()
            writing = asyncio.ensure_future(journal.append(KEY, PlaceRecord(7, 112.0)))
            await asyncio.sleep(0)
            assert (False, True) == (writing.done(), asyncio.get_running_loop().time() - began < 1.0)
            other.execute("ROLLBACK")
        await writing
        entry = await journal.entry(KEY)
        assert entry is not None
        assert PlaceRecord(7, 112.0) == entry.placed
        await journal.close()

    asyncio.run(main())


def test_the_log_is_moved_into_the_file_though_short_records_never_do(tmp_path: Path) -> None:
    """Else it would grow for as long as the runner lives: a thousand pages are four MiB."""

    async def main() -> int:
        journal = open_in(tmp_path)
        for number in range(400):
            key = key_of("digits", str(number))
            for record in (claim(submission=str(number)), *ON_THE_WAY):
                await journal.append(key, record)
        size = (tmp_path / "journal.db-wal").stat().st_size
        await journal.close()
        return size

    assert asyncio.run(main()) < 6 << 20
