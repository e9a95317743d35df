"""What is the archive's format: any gzip unpacks it, and alone it gives all records back."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import os
import subprocess
from pathlib import Path

import msgspec
import pytest

from adapters.spool import FileSpool
from adapters.spool_archive import archive_lines, read_archive
from runner.errors import Refused, RunnerError
from runner.ports import Gap, LogLine, Position
from tests.adapters.spool_harness import open_in
from tests.adapters.spool_writer import KEY
from tests.conformance.records import key_of

MIB = 1 << 20


async def _all(spool: FileSpool, start: int = 0, limit_bytes: int = MIB) -> list[LogLine]:
    lines: list[LogLine] = []
    position = Position(1, start)
    while found := await spool.read(KEY, position, limit_bytes):
        lines += found
        position = Position(1, found[-1].sequence + 1)
    return lines


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "spool" / KEY).iterdir())


async def _mixed(spool: FileSpool) -> None:
    """Write something of everything, in several members."""
    await spool.append(KEY, 1, "runner", b"staging\n" * 30_000)
    for number in range(6000):
        await spool.append(KEY, 1, ("stdout", "stderr")[number % 2], b"%d\n" % number)
    await spool.append(KEY, 1, "event", b"{}")
    await spool.append(KEY, 1, "gap", b'{"bytes":7}')
    for number in range(12):
        await spool.append(KEY, 1, "stdout", bytes([number]) * 200_000)
    await spool.append(KEY, 1, "runner", os.urandom(250_000))
    await spool.append(KEY, 1, "stderr", b"the end")


async def _sealed(directory: Path) -> tuple[str, list[LogLine]]:
    spool = open_in(directory)
    await _mixed(spool)
    lines = await _all(spool)
    seal = await spool.seal(KEY, 1)
    assert seal.gaps == 1
    return seal.archive, lines


@pytest.mark.integration
def test_gzip_itself_gives_stdout_and_stderr_in_order(tmp_path: Path) -> None:
    """Whoever fetches an archive by its URL needs none of our programs."""
    archive, lines = asyncio.run(_sealed(tmp_path))
    subprocess.run(["gzip", "-t", archive], check=True)
    unpacked = subprocess.run(["zcat", archive], check=True, capture_output=True).stdout
    expected = b"".join(line.data for line in lines if line.stream in {"stdout", "stderr"})
    assert unpacked == expected == gzip.decompress(Path(archive).read_bytes())


def test_an_archive_alone_gives_all_records_back(tmp_path: Path) -> None:
    """A log that was fetched from elsewhere is shown with its times and its state changes, by any attempt's number."""
    archive, lines = asyncio.run(_sealed(tmp_path))
    assert list(archive_lines(archive, Position())) == lines
    for start in (1, 3000, 5999, 6001, 6010, len(lines) - 1):
        part = read_archive(archive, Position(1, start), 50_000)
        assert list(part) == lines[start : start + len(part)]
        assert part
    assert read_archive(archive, Position(1, len(lines))) == ()
    assert {line.attempt for line in read_archive(archive, Position(7, 0))} == {7}


def test_a_shed_log_is_read_from_its_archive(tmp_path: Path) -> None:
    """A reader of a log that gives way to its archive notices nothing, wherever it was."""

    async def main() -> None:
        _, lines = await _sealed(tmp_path)
        for spool in (open_in(tmp_path), open_in(tmp_path)):
            begun = list(await spool.read(KEY, Position(), 300_000))
            behind = await spool.behind(KEY, Position(1, 6000))
            await spool.shed(KEY)
            assert _names(tmp_path) == ["1.log.gz", "1.sealed"]
            assert begun + await _all(spool, len(begun)) == lines
            for start in (0, 100, 6005, len(lines)):
                assert await _all(spool, start, 100_000) == lines[start:]
            assert await spool.sealed(KEY)
            assert (await spool.bytes_written(KEY, 1))["event"] == 2
            assert await spool.behind(KEY, Position(1, 6000)) == behind
            assert await spool.near_end(KEY, 7) == Position(1, len(lines) - 1)
            with pytest.raises(RunnerError, match="sealed"):
                await spool.append(KEY, 1, "stdout", b"x")

    asyncio.run(main())


def test_only_sealed_attempts_are_shed(tmp_path: Path) -> None:
    """What is being written, or has no archive that holds all of it, stays as it is."""

    async def main() -> None:
        spool = open_in(tmp_path)
        for attempt in (1, 2, 3):
            await spool.append(KEY, attempt, "stdout", b"%d" % attempt)
        await spool.seal(KEY, 1)
        old = (await spool.seal(KEY, 2)).archive
        Path(old).write_bytes(gzip.compress(b"2"))
        await spool.shed(KEY)
        assert _names(tmp_path) == ["1.log.gz", "1.sealed", "2.log.gz", "2.sealed", "2.spool", "3.spool"]
        await spool.append(KEY, 3, "stdout", b"goes on")
        lines = await spool.read(KEY, Position())
        assert [(line.attempt, line.data) for line in lines] == [(1, b"1"), (2, b"2"), (3, b"3"), (3, b"goes on")]
        await spool.close()

    asyncio.run(main())


def test_a_shedding_that_was_cut_short_hides_nothing(tmp_path: Path) -> None:
    """A kill may leave any of the later segments; the archive is read then, and the next shedding deletes them."""

    async def main() -> None:
        ticks = itertools.count()
        spool = FileSpool(str(tmp_path / "spool"), lambda: next(ticks), segment_bytes=1000)
        for number in range(100):
            await spool.append(KEY, 1, "stdout", b"%099d\n" % number)
        await spool.seal(KEY, 1)
        lines = await _all(open_in(tmp_path))
        (tmp_path / "spool" / KEY / "1.spool").unlink()
        spool = open_in(tmp_path)
        assert await _all(spool) == lines
        await spool.shed(KEY)
        assert _names(tmp_path) == ["1.log.gz", "1.sealed"]

    asyncio.run(main())


def test_a_gap_that_is_read_from_its_middle_counts_nothing(tmp_path: Path) -> None:
    """Whoever has some of what an archive lacks is not told that all of it is missing."""

    async def main() -> None:
        spool = open_in(tmp_path)
        for number in range(1000):
            await spool.append(KEY, 1, "stdout", b"%099d\n" % number)
        dropped = await spool.drop_middle(KEY, 1, 10_000, 10_000)
        await spool.seal(KEY, 1)
        await spool.shed(KEY)
        for start, count in ((0, dropped), (100, dropped), (101, None), (500, None)):
            gap = next(line for line in await _all(open_in(tmp_path), start) if line.stream == "gap")
            assert msgspec.json.decode(gap.data, type=Gap).bytes == count

    asyncio.run(main())


def test_reading_from_a_position_unpacks_no_more_than_it_must(tmp_path: Path) -> None:
    """The end of a log of gigabytes is shown at once: what lies before is hopped over, so its damage is no harm."""
    archive, lines = asyncio.run(_sealed(tmp_path))
    harmed = bytearray(Path(archive).read_bytes())
    table_end = 12 + int.from_bytes(harmed[10:12], "little")
    for at in range(table_end, table_end + 8):
        harmed[at] ^= 0xFF
    Path(archive).write_bytes(harmed)
    start = len(lines) - 3
    assert list(read_archive(archive, Position(1, start), 1)) == lines[start : start + 1]
    with pytest.raises(Refused, match="damaged"):
        read_archive(archive, Position())


@pytest.mark.parametrize("size", [0, 5, 100_000, 3 * MIB])
def test_an_archive_without_tables_is_stdout(tmp_path: Path, size: int) -> None:
    """Those of earlier versions stay readable."""
    data = bytes(range(251)) * (size // 251 + 1)
    (tmp_path / "old.log.gz").write_bytes(gzip.compress(data[:size]))
    lines = list(archive_lines(str(tmp_path / "old.log.gz"), Position(3, 0)))
    assert b"".join(line.data for line in lines) == data[:size]
    assert {(line.attempt, line.stream, line.at_ns) for line in lines} <= {(3, "stdout", 0)}
    assert [line.sequence for line in lines] == list(range(len(lines)))
    assert list(read_archive(str(tmp_path / "old.log.gz"), Position(3, 1), 1)) == lines[1:2]


def test_a_damaged_archive_is_told_as_such(tmp_path: Path) -> None:
    """Half a download must not pass for the whole log, nor any other bytes for one."""
    archive, _ = asyncio.run(_sealed(tmp_path))
    whole = Path(archive).read_bytes()
    for harmed in (
        whole[:-1],
        whole[: len(whole) // 2],
        whole[:30],
        whole + b"x",
        b"no archive",
        whole[:-5] + b"12345",
    ):
        Path(archive).write_bytes(harmed)
        with pytest.raises(Refused, match="damaged"):
            list(archive_lines(archive, Position()))


def test_equal_logs_of_equal_times_have_equal_archives(tmp_path: Path) -> None:
    """An archive that is made and stored again replaces itself."""

    async def main() -> None:
        archives = set()
        for key in (KEY, key_of("other")):
            spool = FileSpool(str(tmp_path), lambda: 7)
            await spool.append(key, 1, "stdout", b"the same\n")
            archives.add(Path((await spool.seal(key, 1)).archive).read_bytes())
        assert len(archives) == 1

    asyncio.run(main())
