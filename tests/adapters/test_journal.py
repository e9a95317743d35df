"""What is SQLite's about the journal: kills, full disks, damaged files, other readers, secrets at rest."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from adapters.journal import JournalReader, SqliteJournal
from adapters.journal_rows import COLUMNS, FIND, IN_FLIGHT, LIST, LIST_IN_FLIGHT, ONE
from adapters.journal_schema import MIGRATIONS, SCHEMA_VERSION
from runner.errors import ConfigurationError, OutOfSpace
from runner.job import Key
from runner.records import JournalEntry, JournalRecord, PlaceRecord, SettleRecord, WaitRecord
from tests.conformance.records import BODY, GRANT, ON_THE_WAY, claim, exited, key_of, stored
from tests.kill_rounds import writer
from tests.tiny_disk import free_bytes, tiny_disk

KEY = key_of("digits")
ROUNDS = 40
STAGES = ("claimed", "waiting", "placed", "granted", "staged", "starting", "exited", "uploaded", "stored", "settled")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with tiny_disk(tmp_path / "disk") as disk:
        yield disk


def open_in(directory: Path) -> SqliteJournal:
    return SqliteJournal(str(directory / "journal.db"), str(directory / "journal.key"))


@pytest.mark.integration
def test_what_was_appended_survives_kill_9_at_any_instant(tmp_path: Path) -> None:
    """A killed runner reads what it did from its journal; whatever append returned for must stand there."""
    acknowledged = 0
    with writer("tests.adapters.journal_writer") as killed:
        for seed in range(ROUNDS):
            done = killed.round(tmp_path, seed)
            acknowledged += len(done)
            entries = asyncio.run(_all_entries(tmp_path))
            for line in done:
                job_id, _, stage = line.partition(" ")
                assert getattr(entries[key_of(job_id)], STAGES[int(stage)]) is not None, f"round {seed}: {line} is lost"
    assert acknowledged > ROUNDS


async def _all_entries(directory: Path) -> dict[Key, JournalEntry]:
    """Read with the write-ahead log as the kill left it, then as the next life of the runner does."""
    seen = {entry.key for entry in await _read(directory)}
    if not (directory / "journal.db").exists():
        return {}
    journal = open_in(directory)
    entries = {entry.key: entry for entry in await journal.list(limit=100_000, ended=True)}
    assert seen == set(entries)
    assert {entry.claimed.body for entry in await journal.in_flight()} <= {BODY}
    await journal.close()
    return entries


def test_a_reader_sees_each_record_while_the_writer_is_open(tmp_path: Path) -> None:
    """`ps`, `show` and `why` read beside a runner that is up, without what the message kept secret."""

    async def main() -> None:
        reader = JournalReader(str(tmp_path / "journal.db"))
        assert await reader.list(limit=1, ended=True) == ()
        journal = open_in(tmp_path)
        assert await reader.in_flight() == ()
        await journal.append(KEY, claim())
        for record in (WaitRecord("needs 2 GPUs", 1.0), GRANT):
            await journal.append(KEY, record)
            entry = await reader.find("digits")
            assert entry is not None
            assert record in (entry.waiting, entry.granted)
            assert entry.claimed.body == b""
            assert entry.claimed.claim.job.env == {"TOKEN": "***"}
        await journal.close()
        await reader.close()

    asyncio.run(main())


def test_a_reader_in_the_middle_of_reading_holds_no_writer_up(tmp_path: Path) -> None:
    """Somebody's slow `ps` must not stop the box."""

    async def main() -> None:
        journal = open_in(tmp_path)
        await journal.append(KEY, claim())
        with closing(sqlite3.connect(tmp_path / "journal.db", isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM entry").fetchone()
            for disk in range(3000):
                await journal.append(KEY, PlaceRecord(disk, 1.0))
            assert await journal.prune(0.0) == 0
        entry = await journal.entry(KEY)
        await journal.close()
        assert entry is not None
        assert entry.placed == PlaceRecord(2999, 1.0)

    asyncio.run(main())


def test_secrets_of_a_message_never_stand_in_the_open(tmp_path: Path) -> None:
    """Foreign messages carry storage keys; a copied journal must not give them away."""

    async def main() -> None:
        journal = open_in(tmp_path)
        await journal.append(KEY, claim())
        for record in ON_THE_WAY[:-1]:
            await journal.append(KEY, record)
        entry = await journal.entry(KEY)
        assert entry is not None
        assert entry.claimed == claim()
        _assert_nothing_in_the_open(tmp_path)
        await journal.close()

    asyncio.run(main())


def _assert_nothing_in_the_open(directory: Path) -> None:
    found = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert {"journal.db", "journal.db-wal", "journal.key"} <= set(found)
    assert [name for name, content in found.items() if b"hunter2" in content] == []
    assert {path.stat().st_mode & 0o077 for path in directory.iterdir()} == {0}


@pytest.mark.parametrize("last", [SettleRecord(170.0), stored(None)])
def test_a_body_is_dropped_when_the_message_has_left(tmp_path: Path, last: JournalRecord) -> None:
    """What is settled needs no secret any more."""

    async def main() -> None:
        journal = open_in(tmp_path)
        for record in (claim(), exited(), last):
            await journal.append(KEY, record)
        entry = await journal.entry(KEY)
        await journal.close()
        assert entry is not None
        assert entry.claimed.body == b""
        with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
            assert connection.execute("SELECT count(*) FROM message").fetchone() == (0,)

    asyncio.run(main())


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
        asyncio.run(_read(tmp_path))


async def _read(directory: Path) -> tuple[JournalEntry, ...]:
    reader = JournalReader(str(directory / "journal.db"))
    try:
        return await reader.list(limit=100_000, ended=True)
    finally:
        await reader.close()


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
    assert asyncio.run(_read(tmp_path)) == ()
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


@pytest.mark.parametrize(("query", "values"), [(ONE, 1), (IN_FLIGHT, 0), (FIND, 2), (LIST, 1), (LIST_IN_FLIGHT, 1)])
def test_no_question_reads_the_whole_journal(tmp_path: Path, query: str, values: int) -> None:
    """With 100,000 jobs that ended, `ps` and a restart are as fast as with ten."""
    asyncio.run(open_in(tmp_path).close())
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {query}", (1,) * values).fetchall()
    steps = [step for *_, step in plan]
    assert [step for step in steps if step.startswith("SCAN entry") and "USING INDEX" not in step] == []
    assert [step for step in steps if "TEMP B-TREE" in step and query != FIND] == []


def test_every_kind_of_record_has_its_column() -> None:
    """A kind that is added to the vocabulary and forgotten here would be lost at a restart."""
    assert set(COLUMNS.values()) == set(JournalRecord.__args__)
    assert set(COLUMNS) == set(JournalEntry.__struct_fields__) - {"key"}
