"""What every spool keeps, the one of the tests too: dropping a log's middle, cursors, and how much is left to read."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import msgspec
import pytest

from adapters.spool import FileSpool
from runner.ports import Cursor, Gap, Position, Spool
from tests.conformance.spool_harness import KEY, OTHER, Opener, read_all
from tests.fakes.disk import FakeSpool

LINE = b"%05d" + b"." * 94 + b"\n"
LINE_BYTES = 100


@pytest.fixture(params=["file", "fake"])
def open_any(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Open the same spool, on disk or in memory, as often as a test likes."""
    ticks, fake = itertools.count(1), cast("Spool", FakeSpool())

    @asynccontextmanager
    async def opened() -> AsyncIterator[Spool]:
        if request.param == "fake":
            yield fake
            return
        spool = FileSpool(str(tmp_path / "spool"), lambda: next(ticks), segment_bytes=16 << 10)
        try:
            yield spool
        finally:
            await spool.close()

    return opened


async def _write(spool: Spool, start: int, end: int) -> None:
    for number in range(start, end):
        await spool.append(KEY, 1, "stdout", LINE % number)


async def _check(spool: Spool, written: int, head_bytes: int, tail_bytes: int) -> int:
    """Check what is left of so many lines around one gap; return how many are missing."""
    records = await read_all(spool, KEY)
    places = [place for place, line in enumerate(records) if line.stream == "gap"]
    assert len(places) == 1
    place, gap = places[0], msgspec.json.decode(records[places[0]].data, type=Gap)
    head, tail = records[:place], records[place + 1 :]
    assert [line.data for line in head] == [LINE % number for number in range(len(head))]
    assert [line.data for line in tail] == [LINE % number for number in range(written - len(tail), written)]
    assert [line.sequence for line in tail] == list(range(written - len(tail), written))
    assert records[place].sequence == written - len(tail) - 1
    missing = written - len(head) - len(tail)
    assert gap == Gap(bytes=missing * LINE_BYTES, lines=missing)
    assert head_bytes - 2 * LINE_BYTES <= len(head) * LINE_BYTES <= head_bytes
    assert tail_bytes - 2 * LINE_BYTES <= len(tail) * LINE_BYTES <= 2 * tail_bytes + 16_384
    return missing


@pytest.mark.parametrize("sizes", [(10_000, 10_000), (1_000, 40_000), (50_000, 5_000)])
def test_the_middle_is_dropped_and_counted(open_any: Opener, sizes: tuple[int, int]) -> None:
    """A job that floods its log keeps the beginning and the end, and every reader is told how much is not there."""

    async def main() -> None:
        async with open_any() as spool:
            await _write(spool, 0, 1000)
            dropped = await spool.drop_middle(KEY, 1, *sizes)
            assert dropped == await _check(spool, 1000, *sizes) * LINE_BYTES
            assert (await spool.bytes_written(KEY, 1))["stdout"] == 1000 * LINE_BYTES
            assert await spool.drop_middle(KEY, 1, *sizes) == 0
            await spool.append(KEY, 1, "stderr", b"goes on")
            assert (await read_all(spool, KEY))[-1].sequence == 1000

    asyncio.run(main())


def test_dropping_again_leaves_one_gap_with_the_sum(open_any: Opener) -> None:
    """A job floods for hours, also over restarts of the runner."""

    async def main() -> None:
        dropped = 0
        for start in range(0, 3000, 500):
            async with open_any() as spool:
                await _write(spool, start, start + 500)
                dropped += await spool.drop_middle(KEY, 1, 10_000, 20_000)
                assert dropped == await _check(spool, start + 500, 10_000, 20_000) * LINE_BYTES
                assert (await spool.bytes_written(KEY, 1))["stdout"] == (start + 500) * LINE_BYTES

    asyncio.run(main())


def test_a_log_that_is_small_enough_loses_nothing(open_any: Opener) -> None:
    """Whoever keeps a log within bounds asks often."""

    async def main() -> None:
        async with open_any() as spool:
            assert await spool.drop_middle(KEY, 1, 10_000, 10_000) == 0
            await _write(spool, 0, 150)
            assert await spool.drop_middle(KEY, 1, 10_000, 10_000) == 0
            assert len(await read_all(spool, KEY)) == 150

    asyncio.run(main())


def test_it_is_told_how_much_is_left_to_read(open_any: Opener) -> None:
    """What a sink lags behind is compared with its limit; one too far behind goes on near the end."""

    async def main() -> None:
        async with open_any() as spool:
            assert await spool.behind(KEY, Position()) == 0
            assert await spool.near_end(KEY, 1000) == Position()
            await _write(spool, 0, 1000)
            await spool.append(KEY, 2, "stdout", b"x" * 50)
            for sequence in (0, 1, 500, 999, 1000):
                assert await spool.behind(KEY, Position(1, sequence)) == (1000 - sequence) * LINE_BYTES + 50
            assert await spool.behind(KEY, Position(2, 0)) == 50
            assert await spool.behind(KEY, Position(2, 1)) == 0
            assert await spool.near_end(KEY, 1 << 30) == Position(1, 0)
            assert await spool.near_end(KEY, 30_050) == Position(1, 700)
            assert await spool.near_end(KEY, 30_149) == Position(1, 700)
            assert await spool.near_end(KEY, 60) in {Position(2, 0), Position(1, 1000)}
            assert await spool.near_end(KEY, 10) == Position(2, 1)

    asyncio.run(main())


def test_what_was_dropped_is_not_left_to_read(open_any: Opener) -> None:
    """A sink is not taken for late because of what nobody can send it."""

    async def main() -> None:
        async with open_any() as spool:
            await _write(spool, 0, 1000)
            dropped = await spool.drop_middle(KEY, 1, 10_000, 10_000)
            assert await spool.behind(KEY, Position()) == pytest.approx(1000 * LINE_BYTES - dropped, abs=100)
            near = await spool.near_end(KEY, 5_000)
            assert near == Position(1, 950)
            assert await spool.behind(KEY, near) == 5_000

    asyncio.run(main())


def test_cursors_are_kept_by_sink_and_job(open_any: Opener) -> None:
    """A sink goes on where it was, also in the next life of the runner."""

    async def main() -> None:
        far = Cursor(Position(2**31, 2**62), done=True)
        async with open_any() as spool:
            for key in (KEY, OTHER):
                await spool.append(key, 1, "stdout", b"x")
            assert await spool.cursor(KEY, "redis://a") is None
            await spool.keep_cursor(KEY, "redis://a", far)
            await spool.keep_cursor(KEY, "redis://a", Cursor(Position(1, 7)))
            await spool.keep_cursor(KEY, "file:///" + "b/ü" * 300, far)
        async with open_any() as spool:
            assert await spool.cursor(KEY, "redis://a") == Cursor(Position(1, 7))
            assert await spool.cursor(KEY, "file:///" + "b/ü" * 300) == far
            assert await spool.cursor(OTHER, "redis://a") is None
            await spool.keep_cursor(OTHER, "redis://a", far)
            assert await spool.cursor(OTHER, "redis://a") == far

    asyncio.run(main())


def test_no_cursor_is_kept_of_what_is_gone(open_any: Opener) -> None:
    """A sink that is slower than retention does not make the log's directory again."""

    async def main() -> None:
        async with open_any() as spool:
            await spool.keep_cursor(KEY, "redis://a", Cursor(Position(1, 7)))
            assert await spool.cursor(KEY, "redis://a") is None

    asyncio.run(main())
