"""A journal from before: one of an older version, one whose migration was killed, one of a newer version."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from adapters.journal_schema import SCHEMA_VERSION, open_writer
from runner.credential import Rights
from runner.errors import ConfigurationError
from runner.job import EndReason, Verdict
from runner.records import JournalEntry
from tests.adapters.journal_harness import open_in, read_in
from tests.adapters.journal_migrator import NEWEST, NEXT, QUICK
from tests.adapters.stored_journals import STORED, lay_out
from tests.at_work import until

STAGES = ("claimed", "waiting", "faulted", "placed", "granted", "staged", "starting", "stopping", "exited", "uploaded",
          "stored", "settled")  # fmt: skip


def test_each_format_that_was_ever_written_is_kept_to_be_read() -> None:
    assert [f"format-{version}.sql" for version in range(1, SCHEMA_VERSION + 1)] == sorted(
        path.name for path in STORED.iterdir()
    )


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_what_an_earlier_version_wrote_is_read_whole(tmp_path: Path, version: int) -> None:
    """Every record of each stage, with the secrets of the message; what was not known then has its default."""
    lay_out(f"format-{version}", tmp_path)
    seen = {entry.claimed.claim.id: entry for entry in asyncio.run(read_in(tmp_path))}
    entries = {entry.claimed.claim.id: entry for entry in asyncio.run(_in_flight(tmp_path))}
    assert (set(STAGES), set(STAGES) - {"settled"}) == (set(seen), set(entries))
    assert [stage for stage, entry in entries.items() if getattr(entry, stage) is None] == []
    for entry in entries.values():
        assert entry.claimed.claim.job.env == {"TOKEN": "hunter2"}
        assert b"hunter2" in entry.claimed.body
        assert entry.claimed.claim.rights == Rights(runtime="process", weight=2.0, paths=("/data",))
    stored = entries["stored"]
    assert stored.exited is not None
    assert stored.stored is not None
    assert stored.stored.decision is not None
    assert (stored.exited.outcome.reason, stored.exited.outcome.steps) == (EndReason.SUCCEEDED, ())
    assert (stored.stored.decision.verdict, stored.stored.receipt.outputs[0].bytes) == (Verdict.ACK, 3)


async def _in_flight(directory: Path) -> tuple[JournalEntry, ...]:
    journal = open_in(directory)
    try:
        return await journal.in_flight()
    finally:
        await journal.close()


@pytest.mark.integration
def test_a_migration_that_is_killed_is_whole_at_the_next_start(tmp_path: Path) -> None:
    """The step before it stands, nothing of it does; the next start does it all."""
    lay_out("format-1", tmp_path)
    path = tmp_path / "journal.db"
    whole = _column(path, "claimed")
    with subprocess.Popen([sys.executable, "-m", "tests.adapters.journal_migrator", str(path)]) as migrating:
        log = tmp_path / "journal.db-wal"
        until(lambda: log.exists() and log.stat().st_size > 1 << 20, "it is in the middle")
        migrating.kill()
    assert (_column(path, "quick"), _column(path, "claimed")) == ([None] * len(STAGES), whole)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (NEXT,)
    migrations = {SCHEMA_VERSION: QUICK, NEXT: "CREATE TABLE more (x INTEGER);"}
    with closing(open_writer(str(path), version=NEWEST, migrations=migrations)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (NEWEST,)
        assert connection.execute("SELECT count(*) FROM more").fetchone() == (0,)
    assert _column(path, "claimed") == whole


def _column(path: Path, name: str) -> list[bytes | None]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [row[name] for row in connection.execute("SELECT * FROM entry")]


def test_a_migration_that_fails_changes_nothing_and_says_which_file(tmp_path: Path) -> None:
    lay_out("format-1", tmp_path)
    path = tmp_path / "journal.db"
    script = "DROP TABLE message; ALTER TABLE nowhere ADD COLUMN x;"
    with pytest.raises(ConfigurationError, match=r"journal\.db"):
        open_writer(str(path), version=NEXT, migrations={SCHEMA_VERSION: script})
    assert len(asyncio.run(_in_flight(tmp_path))) == len(STAGES) - 1


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_a_newer_journal_is_left_as_it_is(tmp_path: Path, mode: str) -> None:
    """Not one byte of it, nor how it is written, is changed by the older runner that refuses it."""
    lay_out("format-1", tmp_path)
    path = tmp_path / "journal.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="newer runner that wrote it, or name another --state-dir"):
        open_writer(str(path))
    assert path.read_bytes() == before
