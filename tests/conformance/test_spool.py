"""What every spool keeps: each byte in order, positions over attempts, wake-ups that are never lost, the seal."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from adapters.spool import FileSpool
from runner.errors import RunnerError
from runner.job import Key
from runner.ports import LogLine, Position, Spool
from tests.conformance.records import key_of
from tests.virtual_time import run_virtual

Opener = Callable[[], AbstractAsyncContextManager[Spool]]
KEY, OTHER = key_of("digits"), key_of("other")
SMALL, LARGE = 100, 20_000


@pytest.fixture
def opened(tmp_path: Path) -> Opener:
    """Open the same spool, as often as a test likes."""
    ticks = itertools.count(1_700_000_000_000_000_000)

    @asynccontextmanager
    async def open_spool() -> AsyncIterator[Spool]:
        spool = FileSpool(str(tmp_path / "spool"), lambda: next(ticks))
        try:
            yield spool
        finally:
            await spool.close()

    return open_spool


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


def test_records_come_back_in_order_over_all_attempts(opened: Opener) -> None:
    """A follower reads on from one attempt into the next, also after a restart of the runner."""

    async def main() -> None:
        async with opened() as spool:
            await spool.append(KEY, 1, "runner", b"staging\n")
            await spool.append(KEY, 1, "stdout", b"epoch 1\n")
            await spool.append(OTHER, 1, "stdout", b"another job\n")
            await spool.append(KEY, 2, "stderr", b"\xff\x00 not text")
        async with opened() as spool:
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
def test_reading_goes_on_from_any_position(opened: Opener, count: int) -> None:
    """Sinks that failed and clients that come back ask for the record they want next, whichever that is."""

    async def main() -> None:
        async with opened() as spool:
            for number in range(count):
                await spool.append(KEY, 1, "stdout", b"line %d\n" % number)
            for start in (0, 1, count // 2, count - 1):
                records = await read_all(spool, KEY, Position(1, start))
                assert [line.sequence for line in records] == list(range(start, count))
                assert records[0].data == b"line %d\n" % start
            assert await spool.read(KEY, Position(1, count)) == ()
            assert await spool.read(KEY, Position(2, 0)) == ()

    asyncio.run(main())


def test_a_read_is_limited(opened: Opener) -> None:
    """A reader's memory does not grow with the log."""

    async def main() -> None:
        async with opened() as spool:
            for _ in range(100):
                await spool.append(KEY, 1, "stdout", b"x" * 1000)
            records = await spool.read(KEY, Position(), 10_000)
            assert 1 <= len(records) <= 11
            assert len(await read_all(spool, KEY, limit_bytes=10_000)) == 100

    asyncio.run(main())


def test_a_large_piece_is_kept_whole(opened: Opener) -> None:
    """What is written at once may be cut into records; its bytes and their order are the same."""
    data = bytes(range(256)) * 4096 * 3

    async def main() -> None:
        async with opened() as spool:
            await spool.append(KEY, 1, "stdout", data)
            await spool.append(KEY, 1, "stdout", b"after")
            records = await read_all(spool, KEY)
            assert b"".join(line.data for line in records) == data + b"after"
            assert (await spool.bytes_written(KEY, 1))["stdout"] == len(data) + 5

    asyncio.run(main())


def test_two_streams_at_once_keep_their_order(opened: Opener) -> None:
    """Stdout and stderr are read by two tasks; neither loses or turns around a byte."""

    async def write(spool: Spool, stream: str, size: int) -> None:
        for number in range(50):
            await spool.append(KEY, 1, stream, b"%06d" % number + b"." * size)

    async def main() -> None:
        async with opened() as spool:
            await asyncio.gather(write(spool, "stdout", 10), write(spool, "stderr", 300_000))
            records = await read_all(spool, KEY)
            for stream, size in (("stdout", 10), ("stderr", 300_000)):
                text = b"".join(line.data for line in records if line.stream == stream)
                assert text == b"".join(b"%06d" % number + b"." * size for number in range(50))

    asyncio.run(main())


def test_bytes_are_counted_by_stream_also_after_a_restart(opened: Opener) -> None:
    """The executor skips what stands there already of each stream when it attaches again."""

    async def main() -> None:
        async with opened() as spool:
            assert set((await spool.bytes_written(KEY, 1)).values()) <= {0}
            await spool.append(KEY, 1, "stdout", b"12345")
            await spool.append(KEY, 1, "stderr", b"123")
            await spool.append(KEY, 1, "stdout", b"6")
            before = await spool.bytes_written(KEY, 1)
        async with opened() as spool:
            assert await spool.bytes_written(KEY, 1) == before
            await spool.append(KEY, 1, "stderr", b"4")
            counted = await spool.bytes_written(KEY, 1)
        assert (before["stdout"], before["stderr"]) == (6, 3)
        assert (counted["stdout"], counted["stderr"]) == (6, 4)

    asyncio.run(main())


def test_a_stream_that_does_not_exist_is_refused(opened: Opener) -> None:
    """A misspelt stream would be lost to every reader."""

    async def main() -> None:
        async with opened() as spool:
            with pytest.raises(RunnerError, match="stdlog"):
                await spool.append(KEY, 1, "stdlog", b"x")
            assert await spool.read(KEY, Position()) == ()

    asyncio.run(main())


def test_what_nobody_wrote_reads_as_empty(opened: Opener) -> None:
    """`runner logs` of a job that waits shows nothing, and is no error."""

    async def main() -> None:
        async with opened() as spool:
            assert await spool.read(KEY, Position()) == ()
            assert not await spool.sealed(KEY)
            await spool.remove(KEY)
            assert await spool.prune(1e18, frozenset()) == 0

    asyncio.run(main())


@pytest.mark.parametrize("key", ["../../etc/passwd", "", ".", "/", "a/b"])
def test_a_key_that_is_a_path_is_refused(opened: Opener, key: str) -> None:
    """Keys come from people too; none of them leaves the directory."""

    async def main() -> None:
        async with opened() as spool:
            with pytest.raises(RunnerError, match="no job's key"):
                await spool.read(Key(key), Position())

    asyncio.run(main())


# Wake-ups


def test_a_flag_wakes_everybody_who_waits_for_this_key_alone(opened: Opener) -> None:
    """Each sink has a reader of its own; a quiet job's readers sleep on."""

    async def main() -> None:
        async with opened() as spool, asyncio.TaskGroup() as group:
            mine = [group.create_task(spool.flag(KEY)) for _ in range(2)]
            others = group.create_task(spool.flag(OTHER))
            await asyncio.sleep(0)
            await spool.append(KEY, 1, "stdout", b"x")
            await asyncio.gather(*mine)
            assert not others.done()
            await spool.seal(OTHER, 1)

    asyncio.run(main())


def test_what_came_between_reading_and_waiting_wakes_too(opened: Opener) -> None:
    """A wait with a time limit begins a moment after the read that found nothing."""

    async def main() -> None:
        async with opened() as spool:
            assert await spool.read(KEY, Position()) == ()
            await spool.append(KEY, 1, "stdout", b"x")
            await spool.flag(KEY)

    run_virtual(main())


@pytest.mark.parametrize("readers", [1, 3])
def test_no_wake_up_is_lost_between_reading_and_waiting(opened: Opener, readers: int) -> None:
    """A reader that found nothing waits; what comes in just then must not be left lying until the next line."""
    count = 500

    async def follow(spool: Spool) -> int:
        position = Position()
        while position.sequence < count:
            found = await spool.read(KEY, position)
            if found:
                position = Position(1, found[-1].sequence + 1)
                continue
            # A wait with a time limit begins in a task of its own, so something may come before it does.
            await asyncio.wait_for(spool.flag(KEY), 20)
        return position.sequence

    async def write(spool: Spool) -> None:
        for number in range(count):
            await spool.append(KEY, 1, "stdout", b"%d" % number)
            for _ in range(number % 5):
                await asyncio.sleep(0)

    async def main() -> None:
        async with opened() as spool:
            *ends, _ = await asyncio.gather(*(follow(spool) for _ in range(readers)), write(spool))
            assert ends == [count] * readers

    asyncio.run(main())


def test_news_name_each_log_that_grew_once(opened: Opener) -> None:
    """The fan-out waits for all logs at once; a call that is cancelled takes no news with it."""

    async def main() -> None:
        async with opened() as spool:
            waiting = asyncio.ensure_future(spool.news())
            await asyncio.sleep(0)
            assert not waiting.done()
            await spool.append(KEY, 1, "stdout", b"x")
            assert await waiting == {KEY}
            cancelled = asyncio.ensure_future(spool.news())
            await asyncio.sleep(0)
            await spool.append(KEY, 1, "stdout", b"x")
            cancelled.cancel()
            await spool.append(OTHER, 1, "stdout", b"x")
            await spool.append(OTHER, 1, "stdout", b"x")
            assert await spool.news() == {KEY, OTHER}
            await spool.seal(OTHER, 1)
            assert await spool.news() == {OTHER}

    asyncio.run(main())


# The seal


@pytest.mark.parametrize(
    "order",
    [
        ("out\n", "tail", "err\n"),
        ("err\n", "out\n", "tail"),
        ("out\n", "err\n", "ta", "il"),
        ("out\nta", "err\n", "il"),
    ],
)
def test_lines_are_counted_by_stream(opened: Opener, order: tuple[str, ...]) -> None:
    """Which stream of a job is read first is chance; how many lines it wrote is not."""

    async def main() -> None:
        async with opened() as spool:
            for text in order:
                await spool.append(KEY, 1, "stderr" if text.startswith("err") else "stdout", text.encode())
            assert (await spool.seal(KEY, 1)).lines == 3

    asyncio.run(main())


@pytest.mark.parametrize("count", [0, 3, LARGE])
def test_a_seal_accounts_for_stdout_and_stderr_and_its_archive_holds_them(opened: Opener, count: int) -> None:
    """The receipt's digest is of the very bytes that somebody gets who unpacks the archive."""

    async def main() -> None:
        expected = b""
        async with opened() as spool:
            await spool.append(KEY, 1, "runner", b"not the job's\n")
            for number in range(count):
                expected += b"line %d\n" % number
                await spool.append(KEY, 1, ("stdout", "stderr")[number % 2], b"line %d\n" % number)
            if count:
                expected += b"no newline"
                await spool.append(KEY, 1, "stdout", b"no newline")
            seal = await spool.seal(KEY, 1)
            assert seal.lines == (count + 1 if count else 0)
            assert seal.bytes == len(expected)
            assert seal.sha256 == f"sha256:{hashlib.sha256(expected).hexdigest()}"
            assert _unpacked(seal.archive) == expected
            assert len(await read_all(spool, KEY)) == count + 1 + (count > 0)

    asyncio.run(main())


@pytest.mark.parametrize("count", [3, LARGE])
def test_sealing_again_changes_nothing(opened: Opener, count: int) -> None:
    """A restart in the middle seals once more, and so may two callers at once."""

    async def main() -> None:
        async with opened() as spool:
            for number in range(count):
                await spool.append(KEY, 1, "stdout", b"line %d\n" % number)
            first, second = await asyncio.gather(spool.seal(KEY, 1), spool.seal(KEY, 1))
        async with opened() as spool:
            assert first == second == await spool.seal(KEY, 1)

    asyncio.run(main())


def test_equal_logs_have_equal_archives(opened: Opener) -> None:
    """An archive that is stored again replaces itself."""

    async def main() -> None:
        async with opened() as spool:
            archives = []
            for key in (KEY, OTHER):
                await spool.append(key, 1, "stdout", b"the same\n")
                archives.append(_packed((await spool.seal(key, 1)).archive))
            assert archives[0] == archives[1]

    asyncio.run(main())


def test_nothing_is_added_after_the_seal(opened: Opener) -> None:
    """The receipt has told lines and digest; a line that came later would make it false."""

    async def main() -> None:
        async with opened() as spool:
            await spool.append(KEY, 1, "stdout", b"x")
            await spool.seal(KEY, 1)
            with pytest.raises(RunnerError, match="sealed"):
                await spool.append(KEY, 1, "stdout", b"y")
        async with opened() as spool:
            with pytest.raises(RunnerError, match="sealed"):
                await spool.append(KEY, 1, "stdout", b"y")
            assert [line.data for line in await read_all(spool, KEY)] == [b"x"]
            await spool.append(KEY, 2, "stdout", b"the next attempt")

    asyncio.run(main())


def test_a_log_is_sealed_when_all_of_its_attempts_are(opened: Opener) -> None:
    """A follower stops there."""

    async def main() -> None:
        async with opened() as spool:
            for attempt in (1, 2):
                await spool.append(KEY, attempt, "stdout", b"x")
            await spool.seal(KEY, 1)
            assert not await spool.sealed(KEY)
            await spool.seal(KEY, 2)
            assert await spool.sealed(KEY)

    asyncio.run(main())


# Retention


def test_a_removed_log_is_gone_and_may_begin_again(opened: Opener) -> None:
    """Removing is idempotent, and leaves nothing that a new log of the key would meet."""

    async def main() -> None:
        async with opened() as spool:
            await spool.append(KEY, 1, "stdout", b"x")
            await spool.seal(KEY, 1)
            await spool.remove(KEY)
            await spool.remove(KEY)
            assert await spool.read(KEY, Position()) == ()
            await spool.append(KEY, 1, "stdout", b"new")
            assert [line.data for line in await read_all(spool, KEY)] == [b"new"]

    asyncio.run(main())


def test_prune_deletes_old_logs_but_for_those_to_keep(opened: Opener) -> None:
    """What is in flight is kept however long it says nothing."""

    async def main() -> None:
        async with opened() as spool:
            for key in (KEY, OTHER, key_of("third")):
                await spool.append(key, 1, "stdout", b"x")
                await spool.seal(key, 1)
            assert await spool.prune(0.0, frozenset()) == 0
            assert await spool.prune(1e18, frozenset({OTHER})) == 2
            assert await spool.read(KEY, Position()) == ()
            assert [line.data for line in await read_all(spool, OTHER)] == [b"x"]

    asyncio.run(main())


def _packed(archive: str) -> bytes:
    return Path(archive).read_bytes()


def _unpacked(archive: str) -> bytes:
    return gzip.decompress(_packed(archive))
