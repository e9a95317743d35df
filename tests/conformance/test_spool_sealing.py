"""What every spool keeps: the seal that accounts for a log, and how long logs stand."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from pathlib import Path

import pytest

from runner.errors import RunnerError
from runner.ports import Position
from tests.conformance.records import key_of
from tests.conformance.spool_harness import KEY, LARGE, OTHER, Opener, read_all

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
def test_lines_are_counted_by_stream(open_spool: Opener, order: tuple[str, ...]) -> None:
    """Which stream of a job is read first is chance; how many lines it wrote is not."""

    async def main() -> None:
        async with open_spool() as spool:
            for text in order:
                await spool.append(KEY, 1, "stderr" if text.startswith("err") else "stdout", text.encode())
            assert (await spool.seal(KEY, 1)).lines == 3

    asyncio.run(main())


@pytest.mark.parametrize("count", [0, 3, LARGE])
def test_a_seal_accounts_for_stdout_and_stderr_and_its_archive_holds_them(open_spool: Opener, count: int) -> None:
    """The receipt's digest is of the very bytes that somebody gets who unpacks the archive."""

    async def main() -> None:
        expected = b""
        async with open_spool() as spool:
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
def test_sealing_again_changes_nothing(open_spool: Opener, count: int) -> None:
    """A restart in the middle seals once more, and so may two callers at once."""

    async def main() -> None:
        async with open_spool() as spool:
            for number in range(count):
                await spool.append(KEY, 1, "stdout", b"line %d\n" % number)
            first, second = await asyncio.gather(spool.seal(KEY, 1), spool.seal(KEY, 1))
        async with open_spool() as spool:
            assert first == second == await spool.seal(KEY, 1)

    asyncio.run(main())


def test_nothing_is_added_after_the_seal(open_spool: Opener) -> None:
    """The receipt has told lines and digest; a line that came later would make it false."""

    async def main() -> None:
        async with open_spool() as spool:
            await spool.append(KEY, 1, "stdout", b"x")
            await spool.seal(KEY, 1)
            with pytest.raises(RunnerError, match="sealed"):
                await spool.append(KEY, 1, "stdout", b"y")
        async with open_spool() as spool:
            with pytest.raises(RunnerError, match="sealed"):
                await spool.append(KEY, 1, "stdout", b"y")
            assert [line.data for line in await read_all(spool, KEY)] == [b"x"]
            await spool.append(KEY, 2, "stdout", b"the next attempt")

    asyncio.run(main())


def test_a_log_is_sealed_when_all_of_its_attempts_are(open_spool: Opener) -> None:
    """A follower stops there."""

    async def main() -> None:
        async with open_spool() as spool:
            for attempt in (1, 2):
                await spool.append(KEY, attempt, "stdout", b"x")
            await spool.seal(KEY, 1)
            assert not await spool.sealed(KEY)
            await spool.seal(KEY, 2)
            assert await spool.sealed(KEY)

    asyncio.run(main())


# Retention


def test_a_removed_log_is_gone_and_may_begin_again(open_spool: Opener) -> None:
    """Removing is idempotent, and leaves nothing that a new log of the key would meet."""

    async def main() -> None:
        async with open_spool() as spool:
            await spool.append(KEY, 1, "stdout", b"x")
            await spool.seal(KEY, 1)
            await spool.remove(KEY)
            await spool.remove(KEY)
            assert await spool.read(KEY, Position()) == ()
            await spool.append(KEY, 1, "stdout", b"new")
            assert [line.data for line in await read_all(spool, KEY)] == [b"new"]

    asyncio.run(main())


def test_prune_deletes_old_logs_but_for_those_to_keep(open_spool: Opener) -> None:
    """What is in flight is kept however long it says nothing."""

    async def main() -> None:
        async with open_spool() as spool:
            for key in (KEY, OTHER, key_of("third")):
                await spool.append(key, 1, "stdout", b"x")
                await spool.seal(key, 1)
            assert await spool.prune(0.0, frozenset()) == 0
            assert await spool.prune(1e18, frozenset({OTHER})) == 2
            assert await spool.read(KEY, Position()) == ()
            assert [line.data for line in await read_all(spool, OTHER)] == [b"x"]

    asyncio.run(main())


def _unpacked(archive: str) -> bytes:
    return gzip.decompress(Path(archive).read_bytes())
