"""A spool under everything at once: a writer, dropped middles, and readers of every pace."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import msgspec
import pytest

from adapters.spool import FileSpool
from runner.ports import Gap, Position
from tests.adapters.spool_writer import KEY

pytestmark = pytest.mark.integration

LINE_BYTES = 100
BATCHES = 500


class _Flow:
    """Writes numbered lines while others read them."""

    def __init__(self, spool: FileSpool) -> None:
        self.spool = spool
        self.written = 0
        self.is_done = False
        self._chance = random.Random(7)

    async def write(self) -> None:
        for _ in range(BATCHES):
            count = self._chance.choice((1, 5, 50, 2000))
            lines = b"".join(b"%099d\n" % number for number in range(self.written, self.written + count))
            await self.spool.append(KEY, 1, "stdout", lines)
            self.written += count
            await asyncio.sleep(0)
        await self.spool.seal(KEY, 1)
        self.is_done = True

    async def drop(self) -> None:
        while not self.is_done:
            await self.spool.drop_middle(KEY, 1, 50_000, 300_000)
            await asyncio.sleep(0.003)

    async def follow(self, spool: FileSpool, pace_s: float) -> int:
        """Check that each line is the expected one, or within a gap that counts it; return how many were missed."""
        position, expected, missed = Position(), 0, 0
        while True:
            is_last = self.is_done
            lines = await spool.read(KEY, position, self._chance.choice((1, 10_000, 1 << 20)))
            for line in lines:
                position = Position(1, line.sequence + 1)
                if line.stream == "gap":
                    count = _missing(line.data)
                    missed, expected = missed + count, expected + count
                    continue
                numbers = [int(number) for number in line.data.split()]
                assert numbers == list(range(expected, expected + len(numbers)))
                expected += len(numbers)
            if is_last and not lines:
                break
            await asyncio.sleep(pace_s * self._chance.random())
        assert expected == self.written
        return missed


def _missing(data: bytes) -> int:
    gap = msgspec.json.decode(data, type=Gap)
    assert gap.bytes is not None
    assert gap.lines == gap.bytes // LINE_BYTES
    return gap.bytes // LINE_BYTES


@pytest.mark.integration
def test_every_reader_accounts_for_every_byte(tmp_path: Path) -> None:
    """Whoever reads, in this process or another, gets each line once or is told exactly how many are missing."""

    async def main() -> None:
        own, other = (FileSpool(str(tmp_path), lambda: 7, segment_bytes=20_000) for _ in range(2))
        flow = _Flow(own)
        async with asyncio.TaskGroup() as group:
            group.create_task(flow.write())
            group.create_task(flow.drop())
            readers = [group.create_task(flow.follow(own, pace_s)) for pace_s in (0.001, 0.02, 0.2)]
            readers += [group.create_task(flow.follow(other, pace_s)) for pace_s in (0.001, 0.02, 0.2)]
        assert max(reader.result() for reader in readers) > 0
        await own.shed(KEY)
        assert await flow.follow(own, 0) == await flow.follow(other, 0) > 0

    asyncio.run(main())
