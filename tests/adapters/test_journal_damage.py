"""What is SQLite's about a journal that cannot be used as it is: other keys and versions, damage, a full disk."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from adapters.journal import SqliteJournal
from adapters.journal_schema import MIGRATIONS, SCHEMA_VERSION
from runner.errors import ConfigurationError, OutOfSpace
from tests.adapters.journal_harness import KEY, open_in, read_in
from tests.conformance.records import GRANT, claim, key_of
from tests.tiny_disk import free_bytes


@pytest.mark.parametrize("harm", ["gone", "another", "short", "open to others"])
def test_a_key_that_does_not_fit_is_a_configuration_error(tmp_path: Path, harm: str) -> None:
    """Jobs in flight cannot go on without their messages; the text says which file to put back."""

    async def main() -> None:
        journal = open_in(tmp_path)
        await journal.append(KEY, claim())
        await journal.close()
        _harm_key(tmp_path / "journal.key", harm)
        journal = open_in(tmp_path)
        with pytest.raises(ConfigurationError, match=r"journal\.key"):
            await journal.in_flight()
        assert len(await journal.list(limit=1, ended=False)) == 1
        await journal.close()

    asyncio.run(main())


def _harm_key(path: Path, harm: str) -> None:
    match harm:
        case "gone":
            path.unlink()
        case "another":
            path.write_bytes(b"k" * 32)
        case "short":
            path.write_bytes(b"k")
        case _:
            path.chmod(0o644)


def test_a_journal_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """An older runner must not guess at a format that it does not know; nor may a reader."""
    asyncio.run(open_in(tmp_path).close())
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(ConfigurationError, match=f"format {SCHEMA_VERSION + 1}.*newer runner"):
        open_in(tmp_path)
    with pytest.raises(ConfigurationError, match="newer runner"):
        asyncio.run(read_in(tmp_path))


def test_a_journal_whose_making_was_cut_short_reads_as_empty(tmp_path: Path) -> None:
    """The first start may be killed too; `ps` has nothing to show then, and the next start finishes the file."""
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other, isolation_level=None)) as connection:
        # As SQLite leaves the file when it is killed between writing it and dropping the way back.
        connection.executescript("PRAGMA synchronous = OFF; PRAGMA cache_size = 1; CREATE TABLE made (x); BEGIN")
        connection.executemany("INSERT INTO made VALUES (?)", [("x" * 4000,)] * 100)
        (tmp_path / "journal.db").write_bytes(other.read_bytes())
        (tmp_path / "journal.db-journal").write_bytes(Path(f"{other}-journal").read_bytes())
        connection.execute("ROLLBACK")
    assert asyncio.run(read_in(tmp_path)) == ()
    asyncio.run(open_in(tmp_path).close())
    assert not (tmp_path / "journal.db-journal").exists()


def test_every_older_version_has_its_migration() -> None:
    """A journal written by any released runner opens in this one."""
    assert sorted(MIGRATIONS) == list(range(1, SCHEMA_VERSION))


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to be one" * 100, b"SQLite format 3\0"])
def test_a_damaged_file_is_a_configuration_error(tmp_path: Path, content: bytes) -> None:
    """The text says what is damaged, where, and what to do."""
    (tmp_path / "journal.db").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"journal\.db is damaged .* move .* away"):
        open_in(tmp_path)


def test_a_file_that_was_cut_short_is_a_configuration_error(tmp_path: Path) -> None:
    """Half of a journal is no journal: what it lost cannot be told from what never was."""

    async def main() -> None:
        journal = open_in(tmp_path)
        for number in range(100):
            await journal.append(key_of(f"job-{number}"), claim(f"job-{number}"))
        await journal.close()
        whole = (tmp_path / "journal.db").read_bytes()
        (tmp_path / "journal.db").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ConfigurationError, match="damaged"):
            journal = open_in(tmp_path)

    asyncio.run(main())


def test_an_entry_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """No job is dropped in silence because its row makes no sense."""

    async def main() -> None:
        journal = open_in(tmp_path)
        await journal.append(KEY, claim())
        with closing(sqlite3.connect(tmp_path / "journal.db", isolation_level=None)) as connection:
            connection.execute('UPDATE entry SET placed = \'{"disk": "much"}\'')
        with pytest.raises(ConfigurationError, match=f"job {KEY}"):
            await journal.in_flight()
        await journal.close()

    asyncio.run(main())


def test_a_full_disk_is_out_of_space_and_passes(small_disk: Path) -> None:
    """Journaling goes on when there is room again; nothing that was refused stands half written."""

    async def main() -> None:
        journal = open_in(small_disk)
        await journal.append(KEY, claim())
        ballast = small_disk / "ballast"
        ballast.write_bytes(b"x" * (free_bytes(small_disk) - 64 * 1024))
        appended = await _append_until_full(journal)
        ballast.unlink()
        await journal.append(KEY, GRANT)
        entries = await journal.in_flight()
        await journal.close()
        assert appended > 0
        assert len(entries) == appended + 1
        assert entries[0].granted == GRANT

    asyncio.run(main())


async def _append_until_full(journal: SqliteJournal) -> int:
    for number in range(1000):
        try:
            await journal.append(key_of(f"job-{number}"), claim(f"job-{number}"))
        except OutOfSpace as error:
            assert "journal.db" in str(error)
            return number
    raise AssertionError("the small disk never became full")
