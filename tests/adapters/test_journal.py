"""What is SQLite's about the journal: kills, other readers, secrets at rest, questions that stay cheap."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from adapters.journal import JournalReader
from adapters.journal_rows import COLUMNS, FIND, IN_FLIGHT, LIST, LIST_IN_FLIGHT, ONE
from runner.job import Key
from runner.records import JournalEntry, JournalRecord, PlaceRecord, SettleRecord, WaitRecord
from tests.adapters.journal_harness import KEY, open_in, read_in
from tests.conformance.records import BODY, GRANT, ON_THE_WAY, claim, exited, key_of, stored
from tests.kill_rounds import writer

ROUNDS = 40
STAGES = ("claimed", "waiting", "placed", "granted", "staged", "starting", "exited", "uploaded", "stored", "settled")


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
    seen = {entry.key for entry in await read_in(directory)}
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
