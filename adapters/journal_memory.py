"""
What a running writer remembers of the jobs that it claimed itself, so that stages need not read back what they wrote.

Only what is surely whole is kept: entries whose first record was written in this life, until they are settled or lost.
All else is read from the file.
"""

from __future__ import annotations

import msgspec

from adapters.journal_rows import COLUMNS
from runner.job import Key
from runner.records import ClaimRecord, JournalEntry, JournalRecord, SettleRecord, StoreRecord

_NAMES = {kind: name for name, kind in COLUMNS.items()}


class Remembered:
    """Entries in flight by key, equal to what the file holds of them."""

    def __init__(self) -> None:
        self._entries: dict[Key, JournalEntry] = {}

    def find(self, key: Key) -> JournalEntry | None:
        """Return an entry; None tells nothing."""
        return self._entries.get(key)

    def take_in(self, key: Key, record: JournalRecord, *, begins: bool) -> None:
        """Follow a record that was committed; ``begins`` says that the file had nothing of this key before."""
        known = self._entries.pop(key, None)
        match record:
            case ClaimRecord():
                if begins:
                    self._entries[key] = JournalEntry(key=key, claimed=record)
            case SettleRecord() | StoreRecord(decision=None):
                pass
            case _:
                if known is not None:
                    self._entries[key] = msgspec.structs.replace(known, **{_NAMES[type(record)]: record})
