"""Journals that earlier versions wrote, as text in the repository, laid out as files again."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

STORED = Path(__file__).with_name("journals")


def lay_out(name: str, directory: Path) -> None:
    """Make ``journal.db`` and ``journal.key`` in a directory."""
    text = (STORED / f"{name}.sql").read_text("utf-8")
    (key,) = re.findall(r"^-- journal\.key: ([0-9a-f]{64})$", text, re.MULTILINE)
    (directory / "journal.key").write_bytes(bytes.fromhex(key))
    (directory / "journal.key").chmod(0o600)
    with closing(sqlite3.connect(directory / "journal.db", isolation_level=None)) as connection:
        connection.executescript(text)
