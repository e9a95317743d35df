"""What the suite for spools needs: keys, sizes, and reading as a sink does."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from runner.job import Key
from runner.ports import LogLine, Position, Spool
from tests.conformance.records import key_of

Opener = Callable[[], AbstractAsyncContextManager[Spool]]
KEY, OTHER = key_of("digits"), key_of("other")
SMALL, LARGE = 100, 20_000


async def read_all(
    spool: Spool, key: Key, position: Position | None = None, limit_bytes: int = 1 << 20
) -> list[LogLine]:
    """Read to the end as a sink does."""
    records: list[LogLine] = []
    position = position or Position()
    while found := await spool.read(key, position, limit_bytes):
        records += found
        position = Position(found[-1].attempt, found[-1].sequence + 1)
    return records
