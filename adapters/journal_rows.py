"""
Rows of the journal and what they mean: records to columns, columns to entries. Runs in the journal's threads.

The plain columns never hold what a message kept secret: values of ``env`` and texts of inputs are blanked there, and
the claim stands whole, with the body, in an encrypted column of its own until the message is settled.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import msgspec

from adapters.body_cipher import BodyCipher
from runner.errors import ConfigurationError, RunnerError
from runner.job import Key
from runner.records import (
    ClaimRecord,
    ExitRecord,
    FaultRecord,
    GrantRecord,
    JournalEntry,
    JournalRecord,
    PlaceRecord,
    SettleRecord,
    StageRecord,
    StartRecord,
    StopRecord,
    StoreRecord,
    UploadRecord,
    WaitRecord,
)
from runner.units import decode_hook, encode_hook

BLANK = "***"
COLUMNS: dict[str, type] = {
    "claimed": ClaimRecord,
    "placed": PlaceRecord,
    "granted": GrantRecord,
    "staged": StageRecord,
    "starting": StartRecord,
    "stopping": StopRecord,
    "exited": ExitRecord,
    "uploaded": UploadRecord,
    "stored": StoreRecord,
    "settled": SettleRecord,
    "waiting": WaitRecord,
    "faulted": FaultRecord,
}
_SELECT = f"SELECT entry.key, {', '.join(COLUMNS)}"
_WHOLE = f"{_SELECT}, sealed FROM entry LEFT JOIN message USING (key) "
_SHOWN = f"{_SELECT}, NULL FROM entry "
ONE = _WHOLE + "WHERE entry.key = ?"
IN_FLIGHT = _WHOLE + "WHERE in_flight ORDER BY claimed_at"
FIND = _WHOLE + "WHERE id = ? OR entry.key = ? ORDER BY claimed_at DESC LIMIT 1"
LIST = _SHOWN + "ORDER BY claimed_at DESC LIMIT ?"
LIST_IN_FLIGHT = _SHOWN + "WHERE in_flight ORDER BY claimed_at DESC LIMIT ?"

_ENCODE = msgspec.json.Encoder(enc_hook=encode_hook).encode
_DECODE: dict[str, Callable[[bytes], Any]] = {
    name: msgspec.json.Decoder(kind, dec_hook=decode_hook).decode for name, kind in COLUMNS.items()
}
_ENCODE_WHOLE = msgspec.msgpack.Encoder(enc_hook=encode_hook).encode
_DECODE_WHOLE = msgspec.msgpack.Decoder(ClaimRecord, dec_hook=decode_hook).decode

_CLAIM_AFRESH = """
INSERT INTO entry (key, id, attempt, claimed_at, in_flight, claimed) VALUES (?, ?, ?, ?, 1, ?)
ON CONFLICT (key) DO UPDATE SET
    id = excluded.id, attempt = excluded.attempt, claimed_at = excluded.claimed_at, in_flight = 1, ended_at = NULL,
    claimed = excluded.claimed, placed = NULL, granted = NULL, staged = NULL, starting = NULL, stopping = NULL,
    exited = NULL, uploaded = NULL, stored = NULL, settled = NULL, waiting = NULL
"""
_RENEW = "UPDATE entry SET claimed_at = ?, claimed = ? WHERE key = ?"
_PLAIN = {kind: f"UPDATE entry SET {name} = ? WHERE key = ?" for name, kind in COLUMNS.items()}  # noqa: S608 - constants
_EXITED = "UPDATE entry SET exited = ?, ended_at = ? WHERE key = ?"
_STORED = "UPDATE entry SET stored = ?, ended_at = coalesce(ended_at, ?), in_flight = in_flight AND ? WHERE key = ?"
_SETTLED = "UPDATE entry SET settled = ?, ended_at = coalesce(ended_at, ?), in_flight = 0 WHERE key = ?"
_PRUNE = "SELECT key FROM entry WHERE NOT in_flight AND ended_at < ? LIMIT ?"


class JournalWriter:
    """Carries out records on a connection, inside of a transaction that the caller begins and commits."""

    def __init__(self, connection: sqlite3.Connection, cipher: BodyCipher) -> None:
        self._connection = connection
        self._cipher = cipher

    def write(self, key: Key, record: JournalRecord) -> bool:
        """
        Write one record; tell whether it is the first of its key.

        Raises:
            RunnerError: the key was never claimed.
        """
        if isinstance(record, ClaimRecord):
            return self._claim(key, record)
        sql, values = _statement(record)
        if self._connection.execute(sql, (*values, key)).rowcount == 0:
            raise RunnerError(f"cannot journal {type(record).__name__} of job {key}: the journal has no claim of it")
        if isinstance(record, SettleRecord) or (isinstance(record, StoreRecord) and record.decision is None):
            self._connection.execute("DELETE FROM message WHERE key = ?", (key,))
        return False

    def prune(self, before: float, at_most: int) -> int:
        """Delete entries that ended before this epoch second; return how many."""
        keys = self._connection.execute(_PRUNE, (before, at_most)).fetchall()
        self._connection.executemany("DELETE FROM entry WHERE key = ?", keys)
        self._connection.executemany("DELETE FROM message WHERE key = ?", keys)
        return len(keys)

    def _claim(self, key: Key, record: ClaimRecord) -> bool:
        shown = _ENCODE(_blanked(record))
        row = self._connection.execute("SELECT attempt, in_flight FROM entry WHERE key = ?", (key,)).fetchone()
        if _begins_afresh(row, record.claim.attempt):
            values = (key, record.claim.id, record.claim.attempt, record.at, shown)
            self._connection.execute(_CLAIM_AFRESH, values)
        else:
            self._connection.execute(_RENEW, (record.at, shown, key))
        sealed = self._cipher.encrypt(_ENCODE_WHOLE(record), key)
        self._connection.execute("INSERT OR REPLACE INTO message (key, sealed) VALUES (?, ?)", (key, sealed))
        return row is None


def _begins_afresh(row: tuple[int, int] | None, attempt: int) -> bool:
    """Tell a new go from one more delivery of a job that is in flight."""
    return row is None or not row[1] or attempt > row[0]


def _statement(record: JournalRecord) -> tuple[str, tuple[object, ...]]:
    """Return the statement of a record and its values but for the key, which comes last."""
    text = _ENCODE(record)
    match record:
        case ExitRecord():
            return _EXITED, (text, record.at)
        case StoreRecord():
            return _STORED, (text, record.at, record.decision is not None)
        case SettleRecord():
            return _SETTLED, (text, record.at)
        case _:
            return _PLAIN[type(record)], (text,)


def read_entry(row: tuple[Any, ...], path: str, cipher: BodyCipher | None) -> JournalEntry:
    """
    Read one row; with a cipher the claim is put back as it was, secrets and body included, while the row still has it.

    Raises:
        ConfigurationError: a column cannot be read, or not be decrypted.
    """
    key, *texts, sealed = row
    try:
        records = {name: _DECODE[name](text) for name, text in zip(COLUMNS, texts, strict=True) if text is not None}
        if sealed is not None and cipher is not None:
            records["claimed"] = _DECODE_WHOLE(cipher.decrypt(sealed, key))
        return JournalEntry(key=Key(key), **records)
    except (msgspec.DecodeError, TypeError, ValueError) as cause:
        raise ConfigurationError(
            f"the journal {path} cannot be read at job {key} ({cause}): another version wrote it, or it is damaged; "
            "start that version, or move the file away"
        ) from cause


def _blanked(record: ClaimRecord) -> ClaimRecord:
    job = record.claim.job
    inputs = tuple(item if item.text is None else msgspec.structs.replace(item, text=BLANK) for item in job.inputs)
    shown = msgspec.structs.replace(job, env=dict.fromkeys(job.env, BLANK), inputs=inputs)
    return msgspec.structs.replace(record, body=b"", claim=msgspec.structs.replace(record.claim, job=shown))
