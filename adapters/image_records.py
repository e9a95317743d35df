"""
Which images the runner brought to this box: an SQLite file that the runner and its commands may write at once.

Every call is one transaction on a connection of its own, since calls are rare: a kill at any moment leaves all of it or
nothing. A file that does not stand yet is made by the first call that writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from typing import TypeVar

from adapters.files import OWNER_FILE, make_directory
from runner.errors import OutOfSpace, RunnerError, Unavailable
from runner.ports import BegunPull, ImageRow, KnownImages, LocalImage

T = TypeVar("T")
FILE = "images.db"
BUSY_S = 20.0
_TABLES = """
CREATE TABLE IF NOT EXISTS images (
    id TEXT, name TEXT, digest TEXT, size INTEGER, pulled_at REAL, used_at REAL, PRIMARY KEY (id, name)
);
CREATE TABLE IF NOT EXISTS begun (name TEXT PRIMARY KEY, before TEXT);
CREATE TABLE IF NOT EXISTS pins (name TEXT PRIMARY KEY);
"""
_COMPLETE = """
INSERT INTO images VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id, name) DO UPDATE SET digest = ?3, used_at = ?6
"""
_ROWS = "SELECT id, name, digest, size, pulled_at, used_at FROM images ORDER BY used_at, id, name"


class FileImageRecords:
    """The account of images in one state directory."""

    def __init__(self, state_dir: str) -> None:
        self._path = os.path.join(state_dir, FILE)

    async def begin(self, name: str, before: str) -> None:
        await self._write("INSERT OR REPLACE INTO begun VALUES (?, ?)", name, before)

    async def complete(self, name: str, image: LocalImage, at: float) -> None:
        def write(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM begun WHERE name = ?", (name,))
            db.execute(_COMPLETE, (image.id, name, image.digest, image.size, at, at))

        await self._call(write)

    async def abandon(self, name: str) -> None:
        await self._write("DELETE FROM begun WHERE name = ?", name)

    async def use(self, image_id: str, at: float) -> None:
        await self._write("UPDATE images SET used_at = max(used_at, ?) WHERE id = ?", at, image_id)

    async def forget(self, image_id: str) -> None:
        await self._write("DELETE FROM images WHERE id = ?", image_id)

    async def pin(self, name: str) -> None:
        await self._write("INSERT OR IGNORE INTO pins VALUES (?)", name)

    async def unpin(self, name: str) -> bool:
        return bool(await self._write("DELETE FROM pins WHERE name = ?", name))

    async def known(self) -> KnownImages:
        return await asyncio.to_thread(self._known)

    async def _write(self, statement: str, *values: str | float) -> int:
        """Return how many rows it changed."""
        return await self._call(lambda db: db.execute(statement, values).rowcount)

    async def _call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.to_thread(self._within_transaction, work)

    def _known(self) -> KnownImages:
        return self._within_transaction(_known) if os.path.exists(self._path) else KnownImages()

    def _within_transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._explained(), contextlib.closing(self._open()) as db, db:
            return work(db)

    def _open(self) -> sqlite3.Connection:
        if not os.path.exists(self._path):
            self._make()
        db = sqlite3.connect(self._path, timeout=BUSY_S)
        try:
            db.executescript(_TABLES)
        except BaseException:
            db.close()
            raise
        return db

    def _make(self) -> None:
        """Make the file for whoever owns the directory: a command may be typed by root, and the runner be another."""
        directory = os.path.dirname(self._path)
        make_directory(directory)
        fd = os.open(self._path, os.O_CREAT | os.O_CLOEXEC, OWNER_FILE)
        try:
            owner = os.stat(directory)
            if os.geteuid() == 0:
                os.fchown(fd, owner.st_uid, owner.st_gid)
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise self._explanation(error) from error

    def _explanation(self, error: sqlite3.Error | OSError) -> RunnerError:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            return OutOfSpace(f"account of images: no space left for {self._path}: free some (look with `df`)")
        forget = "move it away to begin anew, and images pulled so far stay"
        return Unavailable(f"account of images: {self._path} cannot be used: {error}: {forget}")


def _known(db: sqlite3.Connection) -> KnownImages:
    rows = tuple(ImageRow(*row) for row in db.execute(_ROWS))
    pins = frozenset(name for (name,) in db.execute("SELECT name FROM pins"))
    begun = tuple(BegunPull(*row) for row in db.execute("SELECT name, before FROM begun ORDER BY name"))
    return KnownImages(rows, pins, begun)
