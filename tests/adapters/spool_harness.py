"""What the tests of the spool on disk need: one to open, its file, and all that it holds."""

from __future__ import annotations

import itertools
from pathlib import Path

from adapters.spool import FileSpool
from runner.job import Key
from runner.ports import LogLine, Position
from tests.adapters.spool_writer import KEY


def open_in(directory: Path) -> FileSpool:
    ticks = itertools.count(1)
    return FileSpool(str(directory / "spool"), lambda: next(ticks))


def file_of(directory: Path, key: Key = KEY) -> Path:
    return directory / "spool" / key / "1.spool"


async def read_all(spool: FileSpool, key: Key = KEY) -> list[LogLine]:
    records: list[LogLine] = []
    while found := await spool.read(key, Position(1, len(records))):
        records += found
    return records
