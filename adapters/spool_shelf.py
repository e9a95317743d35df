"""
Where spools stand on the disk, and how old ones leave it.

    <root>/<key>/1.spool  1.log.gz  1.sealed  2.spool  2.4217.spool …

Blocking, but for the names.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil

from adapters.files import explained, names_in
from adapters.spool_archive import is_complete
from adapters.spool_parts import ARCHIVE_SUFFIX, SPOOL_SUFFIX, attempts_in, delete_records
from runner.errors import BadInput
from runner.job import Key

MARK_SUFFIX = ".sealed"
CURSOR_SUFFIX = ".cursor"
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_DELETED = ".deleted."


class SpoolShelf:
    """The directory of one box's spools."""

    def __init__(self, root: str) -> None:
        self._root = root

    def directory(self, key: Key) -> str:
        """
        Return where a job's log stands.

        Raises:
            BadInput: what was given cannot be a key.
        """
        if not _KEY.fullmatch(key):
            raise BadInput(f"{key!r} is no job's key: list jobs with `runner ps --all`")
        return os.path.join(self._root, key)

    def archive(self, key: Key, attempt: int) -> str:
        """Return the path of an attempt's archive."""
        return os.path.join(self.directory(key), f"{attempt}{ARCHIVE_SUFFIX}")

    def mark(self, key: Key, attempt: int) -> str:
        """Return the path of the mark that an attempt is sealed."""
        return os.path.join(self.directory(key), f"{attempt}{MARK_SUFFIX}")

    def cursor(self, key: Key, sink: str) -> str:
        """Return the path of a sink's cursor, whose name may be of any length and alphabet."""
        name = hashlib.sha256(sink.encode()).hexdigest()[:32]
        return os.path.join(self.directory(key), f"{name}{CURSOR_SUFFIX}")

    def disk_bytes(self, key: Key) -> int:
        """Measure what a log takes on the disk."""
        directory = self.directory(key)
        return sum(_blocks_of(os.path.join(directory, name)) for name in names_in(directory))

    def is_sealed(self, key: Key, attempt: int) -> bool:
        """Tell whether an attempt's log is closed for good."""
        return os.path.exists(self.mark(key, attempt))

    def shed(self, key: Key) -> None:
        """Delete the records of each sealed attempt whose archive holds all of them."""
        directory = self.directory(key)
        with explained("deleting a log's records", directory):
            for attempt in attempts_in(directory):
                if self.is_sealed(key, attempt) and is_complete(self.archive(key, attempt)):
                    delete_records(directory, attempt)

    def delete(self, key: Key) -> None:
        """Take a log away in one step, then delete it; nothing happens where there is none."""
        trash = os.path.join(self._root, f"{_DELETED}{key}.{secrets.token_hex(4)}")
        with explained("deleting a log", key):
            try:
                os.rename(self.directory(key), trash)
            except FileNotFoundError:
                return
            shutil.rmtree(trash)

    def unshed(self) -> tuple[Key, ...]:
        """Return the keys whose records stand still."""
        with explained("looking for logs", self._root):
            return tuple(Key(name) for name in names_in(self._root) if self._has_records(name))

    def _has_records(self, name: str) -> bool:
        return any(file.endswith(SPOOL_SUFFIX) for file in names_in(os.path.join(self._root, name)))

    def older(self, before: float) -> list[Key]:
        """Return the keys last written before this epoch second, and finish deletions that were cut short."""
        with explained("looking for old logs", self._root):
            self._finish_deletions()
            return [Key(name) for name in names_in(self._root) if self._written_at(name) < before]

    def _finish_deletions(self) -> None:
        if not os.path.isdir(self._root):
            return
        for name in os.listdir(self._root):
            if name.startswith(_DELETED):
                shutil.rmtree(os.path.join(self._root, name))

    def _written_at(self, name: str) -> float:
        with os.scandir(os.path.join(self._root, name)) as entries:
            return max((entry.stat().st_mtime for entry in entries), default=0.0)


def _blocks_of(path: str) -> int:
    try:
        return os.stat(path).st_blocks * 512
    except FileNotFoundError:
        return 0


def size_of(path: str) -> int:
    """Return a file's size in bytes; 0 where there is none."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
