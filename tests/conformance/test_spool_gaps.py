"""What a spool makes of gaps: so much of a stream is over, though it does not stand there."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from runner.ports import Gap, Position
from tests.conformance.spool_harness import KEY, Opener, read_all


def test_what_a_gap_names_counts_as_read_also_after_a_restart(open_spool: Opener) -> None:
    """Reading goes on behind it; one that names no stream or no size says nothing of where that is."""
    wanted = {"stdout": 5 + 1000, "stderr": 3 + 7}

    async def count() -> dict[str, int]:
        async with open_spool() as spool:
            written = await spool.bytes_written(KEY, 1)
        return {stream: written[stream] for stream in wanted}

    async def main() -> None:
        async with open_spool() as spool:
            await spool.append(KEY, 1, "stdout", b"line\n")
            for gap in (Gap("stdout", 1000, 20), Gap("stderr", 7), Gap("stdout"), Gap(bytes=99), Gap(reason="lost")):
                await spool.append(KEY, 1, "gap", msgspec.json.encode(gap))
            await spool.append(KEY, 1, "stderr", b"err")
        assert wanted == await count()
        async with open_spool() as spool:
            seal = await spool.seal(KEY, 1)
        assert (8, 2, 5) == (seal.bytes, seal.lines, seal.gaps)

    asyncio.run(main())


def test_what_a_gap_names_is_nothing_that_a_reader_is_behind(open_spool: Opener) -> None:
    """Not before the log is sealed and not after that, in this life or the next."""
    left_out = msgspec.json.encode(Gap("stdout", 1 << 30, 20))
    wanted = (10 + len(left_out) + 5, Position(1, 2))

    async def main() -> None:
        async with open_spool() as spool:
            for stream, data in (("stdout", b"0123456\n9\n"), ("gap", left_out), ("stdout", b"last\n")):
                await spool.append(KEY, 1, stream, data)
            assert wanted == (await spool.behind(KEY, Position()), await spool.near_end(KEY, 5))
            await spool.seal(KEY, 1)
            assert wanted == (await spool.behind(KEY, Position()), await spool.near_end(KEY, 5))
            written = await spool.bytes_written(KEY, 1)
        async with open_spool() as spool:
            assert wanted == (await spool.behind(KEY, Position()), await spool.near_end(KEY, 5))
            assert written == await spool.bytes_written(KEY, 1)

    asyncio.run(main())


@pytest.mark.parametrize("had", [0, 150, 151, 160])
def test_a_gap_that_is_dropped_with_a_middle_stays_counted(open_spool: Opener, had: int) -> None:
    """Whoever adds up what stands and what is told as missing gets what was printed, wherever they had got to."""
    left_out, record = Gap("stdout", 5000, 50, "too fast"), b"." * 999 + b"\n"

    async def main() -> tuple[int, int]:
        async with open_spool() as spool:
            for number in range(300):
                is_gap = number == 150
                data = msgspec.json.encode(left_out) if is_gap else record
                await spool.append(KEY, 1, "gap" if is_gap else "stdout", data)
            lines = [line for number in range(had) for line in await spool.read(KEY, Position(1, number), 1)]
            assert await spool.drop_middle(KEY, 1, 20_000, 20_000) > 200_000
            lines += await read_all(spool, KEY, Position(1, had))
        told = [msgspec.json.decode(line.data, type=Gap) for line in lines if line.stream == "gap"]
        stands = b"".join(line.data for line in lines if line.stream == "stdout")
        bytes_told, lines_told = sum(gap.bytes or 0 for gap in told), sum(gap.lines or 0 for gap in told)
        return len(stands) + bytes_told, stands.count(b"\n") + lines_told

    assert (299 * 1000 + 5000, 299 + 50) == asyncio.run(main())


def test_reading_goes_on_where_a_source_that_was_cut_off_resumes(open_spool: Opener) -> None:
    """Not behind all that stands, which is more than its source has: that would be read twice after every restart."""

    async def main() -> None:
        cut, anew = (msgspec.json.encode(Gap("stdout", resumes_at=at)) for at in (4, 0))
        async with open_spool() as spool:
            for stream, data in (("stdout", b"0123456789"), ("stderr", b"err"), ("gap", cut), ("stdout", b"45")):
                await spool.append(KEY, 1, stream, data)
            before = await spool.bytes_written(KEY, 1)
        async with open_spool() as spool:
            written = await spool.bytes_written(KEY, 1)
            assert (6, 3) == (before["stdout"], before["stderr"]) == (written["stdout"], written["stderr"])
            await spool.append(KEY, 1, "gap", anew)
            written = await spool.bytes_written(KEY, 1)
            assert (0, 3) == (written["stdout"], written["stderr"])
            assert (await spool.seal(KEY, 1)).bytes == 15

    asyncio.run(main())
