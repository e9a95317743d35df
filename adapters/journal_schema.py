"""
The journal's file: its tables, their version, and how a connection to it is opened.

Knows SQLite and nothing of jobs. Every SQLite error leaves here as one of the runner's own.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from runner.errors import ConfigurationError, OutOfSpace, RunnerError, Unavailable

SCHEMA_VERSION = 1
BUSY_S = 5.0
LOG_PAGES = 1000

CREATE = """
CREATE TABLE entry (
    key TEXT PRIMARY KEY, id TEXT NOT NULL, attempt INTEGER NOT NULL,
    claimed_at REAL NOT NULL, ended_at REAL, in_flight INTEGER NOT NULL,
    claimed BLOB NOT NULL, placed BLOB, granted BLOB, staged BLOB, starting BLOB, stopping BLOB, exited BLOB,
    uploaded BLOB, stored BLOB, settled BLOB, waiting BLOB, faulted BLOB
);
CREATE INDEX entry_by_id ON entry (id);
CREATE INDEX entry_by_claim ON entry (claimed_at);
CREATE INDEX entry_in_flight ON entry (claimed_at) WHERE in_flight;
CREATE INDEX entry_ended ON entry (ended_at) WHERE NOT in_flight;
CREATE TABLE message (key TEXT PRIMARY KEY, sealed BLOB NOT NULL);
"""

MIGRATIONS: dict[int, str] = {}
"""
What brings a journal of version N to N + 1, for every N below ``SCHEMA_VERSION``; each is one transaction.

A field more in a record, with a default, needs none: who does not know it passes it over.
"""

_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def open_writer(
    path: str, *, version: int = SCHEMA_VERSION, migrations: Mapping[int, str] = MIGRATIONS
) -> sqlite3.Connection:
    """
    Open the one writing connection, making or migrating the file; the caller closes it and may hand it to one thread.

    A file that is refused stands as it was. ``version`` is what this runner knows, ``migrations`` how others become it.

    Raises:
        ConfigurationError: the file is no journal, is damaged, was written by a newer version, or cannot be written.
    """
    with explained(path):
        _touch(path)
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            found = _checked_version(connection, path, version)
            _write_ahead(connection, path)
            connection.execute("PRAGMA journal_size_limit = 16777216")
            _migrate(connection, found, version, migrations)
        except BaseException:
            connection.close()
            raise
        return connection


def open_reader(path: str) -> sqlite3.Connection | None:
    """
    Open a connection that only reads; None where no journal was ever written. The caller closes it.

    Raises:
        ConfigurationError: as ``open_writer``.
    """
    if not os.path.exists(path):
        return None
    with explained(path):
        uri = f"{Path(path).absolute().as_uri()}?mode=ro"
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            if _is_made(connection, path):
                return connection
        except BaseException:
            connection.close()
            raise
        connection.close()
        return None


def may_wait(connection: sqlite3.Connection, *, for_disk: bool) -> None:
    """Let the next commits wait for other programs and move the log into the file; ``for_disk``: and for the disk."""
    connection.execute(f"PRAGMA busy_timeout = {BUSY_S * 1000:.0f}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
    connection.execute(f"PRAGMA synchronous = {'FULL' if for_disk else 'NORMAL'}")


def must_not_wait(connection: sqlite3.Connection) -> None:
    """Let the next commits do nothing but add to the log, or fail at once."""
    connection.execute("PRAGMA busy_timeout = 0")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("PRAGMA synchronous = NORMAL")


@contextmanager
def explained(path: str) -> Iterator[None]:
    """
    Turn SQLite's errors into the runner's.

    Raises:
        OutOfSpace: the disk is full.
        ConfigurationError: the file is damaged, or cannot be opened or written at all.
        Unavailable: another program holds the file.
    """
    try:
        yield
    except sqlite3.Error as cause:
        raise _error_of(cause, path) from cause
    except OSError as cause:
        if cause.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutOfSpace(f"cannot write the journal {path}: the disk is full") from cause
        raise ConfigurationError(f"cannot open the journal {path}: {cause.strerror}") from cause


def _error_of(cause: sqlite3.Error, path: str) -> RunnerError:
    code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _is_full(path)):
        return OutOfSpace(f"cannot write the journal {path}: the disk is full; free some space")
    if code in _CORRUPT:
        return ConfigurationError(
            f"the journal {path} is damaged ({cause}): stop the runner, move {path} and {path}-wal away and start "
            "again; jobs that were in flight come back when their leases lapse"
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Unavailable(f"the journal {path} is held by another program for over {BUSY_S:.0f} s")
    return ConfigurationError(f"cannot use the journal {path}: {cause}; check its owner, mode and file system")


def _is_full(path: str) -> bool:
    free = os.statvfs(os.path.dirname(path) or ".")
    return free.f_bavail == 0 or (free.f_files > 0 and free.f_favail == 0)


def _write_ahead(connection: sqlite3.Connection, path: str) -> None:
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise ConfigurationError(
            f"the journal {path} stands where files cannot be shared in memory (mode {mode}), as on a network disk: "
            "name a --state-dir on a local disk"
        )


def _touch(path: str) -> None:
    """Make the file readable for its owner alone; its neighbours inherit that."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _migrate(connection: sqlite3.Connection, found: int, version: int, migrations: Mapping[int, str]) -> None:
    while found < version:
        script, after = (CREATE, version) if found == 0 else (migrations[found], found + 1)
        connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {after}; COMMIT;")
        found = after


def _is_made(connection: sqlite3.Connection, path: str) -> bool:
    """Tell a journal from one whose very first writer was killed as it made the file; the next one will finish it."""
    try:
        return _checked_version(connection, path) > 0
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_READONLY_ROLLBACK:
            return False
        raise


def _checked_version(connection: sqlite3.Connection, path: str, known: int = SCHEMA_VERSION) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > known:
        raise ConfigurationError(
            f"the journal {path} has format {version}, this runner knows up to {known}: "
            "start the newer runner that wrote it, or name another --state-dir"
        )
    return version
