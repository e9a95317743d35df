"""What every spool keeps: each byte in order, positions over attempts."""

from __future__ import annotations

import asyncio

import pytest

from runner.errors import RunnerError
from runner.job import Key
from runner.ports import Position, Spool
from tests.conformance.spool_harness import KEY, LARGE, OTHER, SMALL, Opener, read_all


def test_records_come_back_in_order_over_all_attempts(open_spool: Opener) -> None:
    """A follower reads on from one attempt into the next, also after a restart of the runner."""

    async def main() -> None:
        async with open_spool() as spool:
            await spool.append(KEY, 1, "runner", b"staging\n")
            await spool.append(KEY, 1, "stdout", b"epoch 1\n")
            await spool.append(OTHER, 1, "stdout", b"another job\n")
            await spool.append(KEY, 2, "stderr", b"\xff\x00 not text")
        async with open_spool() as spool:
            await spool.append(KEY, 2, "event", b"{}")
            records = await read_all(spool, KEY)
        assert [(line.attempt, line.sequence, line.stream, line.data) for line in records] == [
            (1, 0, "runner", b"staging\n"),
            (1, 1, "stdout", b"epoch 1\n"),
            (2, 0, "stderr", b"\xff\x00 not text"),
            (2, 1, "event", b"{}"),
        ]
        assert [line.at_ns for line in records] == sorted(line.at_ns for line in records)

    asyncio.run(main())


@pytest.mark.parametrize("count", [SMALL, LARGE])
def test_reading_goes_on_from_any_position(open_spool: Opener, count: int) -> None:
    """Sinks that failed and clients that come back ask for the record they want next, whichever that is."""

    async def main() -> None:
        async with open_spool() as spool:
            for number in range(count):
                await spool.append(KEY, 1, "stdout", b"line %d\n" % number)
            for start in (0, 1, count // 2, count - 1):
                records = await read_all(spool, KEY, Position(1, start))
                assert [line.sequence for line in records] == list(range(start, count))
                assert records[0].data == b"line %d\n" % start
            assert await spool.read(KEY, Position(1, count)) == ()
            assert await spool.read(KEY, Position(2, 0)) == ()

    asyncio.run(main())


def test_a_read_is_limited(open_spool: Opener) -> None:
    """A reader's memory does not grow with the log."""

    async def main() -> None:
        async with open_spool() as spool:
            for _ in range(100):
                await spool.append(KEY, 1, "stdout", b"x" * 1000)
            records = await spool.read(KEY, Position(), 10_000)
            assert 1 <= len(records) <= 11
            assert len(await read_all(spool, KEY, limit_bytes=10_000)) == 100

    asyncio.run(main())


def test_a_large_piece_is_kept_whole(open_spool: Opener) -> None:
    """What is written at once may be cut into records; its bytes and their order are the same."""
    data = bytes(range(256)) * 4096 * 3

    async def main() -> None:
        async with open_spool() as spool:
            await spool.append(KEY, 1, "stdout", data)
            await spool.append(KEY, 1, "stdout", b"after")
            records = await read_all(spool, KEY)
            assert b"".join(line.data for line in records) == data + b"after"
            assert (await spool.bytes_written(KEY, 1))["stdout"] == len(data) + 5

    asyncio.run(main())


def test_two_streams_at_once_keep_their_order(open_spool: Opener) -> None:
    """Stdout and stderr are read by two tasks; neither loses or turns around a byte."""

    async def write(spool: Spool, stream: str, size: int) -> None:
        for number in range(50):
            await spool.append(KEY, 1, stream, b"%06d" % number + b"." * size)

    async def main() -> None:
        async with open_spool() as spool:
            await asyncio.gather(write(spool, "stdout", 10), write(spool, "stderr", 300_000))
            records = await read_all(spool, KEY)
            for stream, size in (("stdout", 10), ("stderr", 300_000)):
                text = b"".join(line.data for line in records if line.stream == stream)
                assert text == b"".join(b"%06d" % number + b"." * size for number in range(50))

    asyncio.run(main())


def test_bytes_are_counted_by_stream_also_after_a_restart(open_spool: Opener) -> None:
    """The executor skips what stands there already of each stream when it attaches again."""

    async def main() -> None:
        async with open_spool() as spool:
            assert set((await spool.bytes_written(KEY, 1)).values()) <= {0}
            await spool.append(KEY, 1, "stdout", b"12345")
            await spool.append(KEY, 1, "stderr", b"123")
            await spool.append(KEY, 1, "stdout", b"6")
            before = await spool.bytes_written(KEY, 1)
        async with open_spool() as spool:
            assert await spool.bytes_written(KEY, 1) == before
            await spool.append(KEY, 1, "stderr", b"4")
            counted = await spool.bytes_written(KEY, 1)
        assert (before["stdout"], before["stderr"]) == (6, 3)
        assert (counted["stdout"], counted["stderr"]) == (6, 4)

    asyncio.run(main())


def test_a_stream_that_does_not_exist_is_refused(open_spool: Opener) -> None:
    """A misspelt stream would be lost to every reader."""

    async def main() -> None:
        async with open_spool() as spool:
            with pytest.raises(RunnerError, match="stdlog"):
                await spool.append(KEY, 1, "stdlog", b"x")
            assert await spool.read(KEY, Position()) == ()

    asyncio.run(main())


def test_what_nobody_wrote_reads_as_empty(open_spool: Opener) -> None:
    """`runner logs` of a job that waits shows nothing, and is no error."""

    async def main() -> None:
        async with open_spool() as spool:
            assert await spool.read(KEY, Position()) == ()
            assert not await spool.sealed(KEY)
            await spool.remove(KEY)
            assert await spool.prune(1e18, frozenset()) == 0

    asyncio.run(main())


@pytest.mark.parametrize("key", ["../../etc/passwd", "", ".", "/", "a/b"])
def test_a_key_that_is_a_path_is_refused(open_spool: Opener, key: str) -> None:
    """Keys come from people too; none of them leaves the directory."""

    async def main() -> None:
        async with open_spool() as spool:
            with pytest.raises(RunnerError, match="no job's key"):
                await spool.read(Key(key), Position())

    asyncio.run(main())
