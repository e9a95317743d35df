"""What is the file format's about spools: kills at any byte, full disks, other processes, bounded memory."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.spool import FileSpool, SpoolStats
from runner.errors import ConfigurationError, OutOfSpace
from runner.job import Key
from runner.ports import LogLine, Position
from tests.adapters.spool_writer import KEY, pieces
from tests.conformance.records import key_of
from tests.kill_rounds import writer
from tests.tiny_disk import free_bytes, tiny_disk

ROUNDS, ROUNDS_A_LOG = 40, 5
LINES = 5000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with tiny_disk(tmp_path / "disk") as disk:
        yield disk


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


@pytest.mark.integration
def test_what_was_appended_survives_kill_9_at_any_instant(tmp_path: Path) -> None:
    """Whatever append returned for stands there, and a writer that goes on behind it loses and doubles no byte."""
    with writer("tests.adapters.spool_writer") as killed:
        for log in range(ROUNDS // ROUNDS_A_LOG):
            directory, acknowledged = tmp_path / str(log), 0
            directory.mkdir()
            for seed in range(log * ROUNDS_A_LOG, (log + 1) * ROUNDS_A_LOG):
                done = killed.round(directory, seed)
                acknowledged = int(done[-1]) if done else acknowledged
                text = asyncio.run(_text(directory))
                assert len(text) >= acknowledged, f"round {seed}: {acknowledged} acknowledged, {len(text)} stand there"
                assert text == _expected(len(text)), f"round {seed}"
            assert acknowledged > 0


async def _text(directory: Path) -> bytes:
    return b"".join(line.data for line in await read_all(open_in(directory)))


def _expected(size: int) -> bytes:
    """Return what the writer writes first."""
    parts, written, missing = list[bytes](), pieces(), size
    while missing > 0:
        parts.append(next(written)[:missing])
        missing -= len(parts[-1])
    return b"".join(parts)


def test_a_file_cut_at_any_byte_keeps_each_whole_record(tmp_path: Path) -> None:
    """A kill may tear a write anywhere; what stood there before is read, counted and gone on from."""
    pieces = [b"first\n", b"", b"\x00" * 40, b"third, without newline", b"last\n"]
    asyncio.run(_write(open_in(tmp_path), pieces))
    whole = file_of(tmp_path).read_bytes()
    ends = [len(whole)]
    for size in range(len(whole), -1, -1):
        file_of(tmp_path).write_bytes(whole[:size])
        found = asyncio.run(_recovered(tmp_path))
        assert found[-1] == b"after"
        assert found[:-1] == [piece for piece in pieces if piece][: len(found) - 1]
        if size < ends[-1] and len(found) - 1 < len(pieces) - len(ends):
            ends.append(size + 1)
    assert len(ends) == len([piece for piece in pieces if piece]) + 1


async def _write(spool: FileSpool, pieces: list[bytes]) -> None:
    for piece in pieces:
        await spool.append(KEY, 1, "stdout", piece)
    await spool.close()


async def _recovered(directory: Path) -> list[bytes]:
    """Count and read as another process does, then append as the next life does, and read again."""
    reader, spool = open_in(directory), open_in(directory)
    before = [line.data for line in await read_all(reader)]
    assert (await reader.bytes_written(KEY, 1))["stdout"] == sum(map(len, before))
    await spool.append(KEY, 1, "stdout", b"after")
    after = [line.data for line in await read_all(spool)]
    assert after[:-1] == before
    assert (await spool.bytes_written(KEY, 1))["stdout"] == sum(map(len, after))
    await spool.close()
    return after


@pytest.mark.parametrize(
    "harm", [b"\x00" * 64, b"\xff" * 64, b"\x10\x00\x00\x00garbage that is no record at all"], ids=["0", "255", "text"]
)
def test_garbage_at_the_end_is_cut_off(tmp_path: Path, harm: bytes) -> None:
    """A power cut leaves blocks of zeros or of other files."""
    asyncio.run(_write(open_in(tmp_path), [b"first"]))
    with file_of(tmp_path).open("ab") as file:
        file.write(harm)
    assert asyncio.run(_recovered(tmp_path)) == [b"first", b"after"]


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    """What an older runner cannot read it must not cut off either."""
    asyncio.run(_write(open_in(tmp_path), [b"first"]))
    newer = b"RSPOOL\x00\x02" + file_of(tmp_path).read_bytes()[8:]
    file_of(tmp_path).write_bytes(newer)
    with pytest.raises(ConfigurationError, match="another version"):
        asyncio.run(_write(open_in(tmp_path), [b"second"]))
    assert file_of(tmp_path).read_bytes() == newer


@pytest.mark.integration
def test_a_reader_sees_whole_records_while_another_process_writes(tmp_path: Path) -> None:
    """`runner logs` reads the files as they are, and meets no half line."""
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from tests.adapters.test_spool import write_lines\n"
        "asyncio.run(write_lines(Path(sys.argv[1])))\n"
    )

    async def main(process: subprocess.Popen[bytes]) -> int:
        spool, records, reads_in_the_middle = open_in(tmp_path), 0, 0
        while records < LINES:
            assert process.poll() in {None, 0}
            found = await spool.read(KEY, Position(1, records))
            expected = [_line(number) for number in range(records, records + len(found))]
            assert [line.data for line in found] == expected
            records += len(found)
            reads_in_the_middle += 0 < records < LINES
        return reads_in_the_middle

    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) as process:
        assert asyncio.run(main(process)) > 0


def _line(number: int) -> bytes:
    return b"line %d " % number + b"x" * (number % 500) + b"\n"


async def write_lines(directory: Path) -> None:
    """Write what the reader in the other process expects."""
    await _write(open_in(directory), [_line(number) for number in range(LINES)])


def test_a_full_disk_is_out_of_space_and_passes(small_disk: Path) -> None:
    """A record that did not fit leaves no trace, and the log goes on when there is room again."""

    async def main() -> None:
        spool, written = open_in(small_disk), 0
        await spool.append(KEY, 1, "stdout", b"first\n")
        ballast = small_disk / "ballast"
        ballast.write_bytes(b"x" * (free_bytes(small_disk) - 200_000))
        while await _fits(spool, b"y" * 30_000):
            written += 1
        ballast.unlink()
        await spool.append(KEY, 1, "stdout", b"last\n")
        expected = [b"first\n", *[b"y" * 30_000] * written, b"last\n"]
        assert [line.data for line in await read_all(spool)] == expected
        assert [line.data for line in await read_all(open_in(small_disk))] == expected
        assert await spool.stats(KEY, 1) == SpoolStats(2, sum(map(len, expected)))
        assert 1 <= written <= 6
        await spool.close()

    asyncio.run(main())


async def _fits(spool: FileSpool, data: bytes) -> bool:
    try:
        await spool.append(KEY, 1, "stdout", data)
    except OutOfSpace as error:
        assert "no space" in str(error)
        return False
    return True


def test_a_seal_that_found_no_room_can_be_made_later(small_disk: Path) -> None:
    """No half archive is left behind, and the log is not taken for sealed."""

    async def main() -> None:
        spool = open_in(small_disk)
        await spool.append(KEY, 1, "stdout", os.urandom(100_000))
        ballast = small_disk / "ballast"
        ballast.write_bytes(b"x" * (free_bytes(small_disk) - 8192))
        with pytest.raises(OutOfSpace):
            await spool.seal(KEY, 1)
        assert not await spool.sealed(KEY)
        assert _names(file_of(small_disk).parent) == ["1.spool"]
        ballast.unlink()
        await spool.append(KEY, 1, "runner", b"the disk was full\n")
        assert (await spool.seal(KEY, 1)).bytes == 100_000

    asyncio.run(main())


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_full_inodes_are_out_of_space(small_disk: Path) -> None:
    """A disk without inodes has room and yet takes no new file."""

    async def main() -> None:
        spool = open_in(small_disk)
        await spool.append(KEY, 1, "stdout", b"x")
        _use_up_inodes(small_disk)
        with pytest.raises(OutOfSpace, match="df -i"):
            await spool.append(key_of("another"), 1, "stdout", b"x")
        await spool.append(KEY, 1, "stdout", b"y")
        await spool.close()

    asyncio.run(main())


def _use_up_inodes(disk: Path) -> None:
    for number in range(1000):
        try:
            (disk / str(number)).touch()
        except OSError:
            return


def test_a_removal_that_was_cut_short_is_finished(tmp_path: Path) -> None:
    """A box that is killed as it deletes does not keep the rest for ever."""

    async def main() -> None:
        spool = open_in(tmp_path)
        await spool.append(KEY, 1, "stdout", b"x")
        _half_delete(tmp_path / "spool")
        assert await spool.prune(1e18, frozenset({KEY})) == 0

    asyncio.run(main())
    assert _names(tmp_path / "spool") == [KEY]


def _half_delete(root: Path) -> None:
    (root / ".deleted.some.job.0a1b").mkdir()
    (root / ".deleted.some.job.0a1b" / "1.spool").write_bytes(b"x")


def test_a_log_being_written_is_never_pruned(tmp_path: Path) -> None:
    """A job may say nothing for longer than logs are kept."""

    async def main() -> None:
        spool = open_in(tmp_path)
        await spool.append(KEY, 1, "stdout", b"x")
        assert await spool.prune(1e18, frozenset()) == 0
        await spool.close()
        assert await spool.prune(1e18, frozenset()) == 1

    asyncio.run(main())


def test_many_logs_are_written_with_few_open_files(tmp_path: Path) -> None:
    """A log that lies open for long, as after a lost lease, does not use up the process's files."""

    async def main() -> None:
        spool = open_in(tmp_path)
        keys = [key_of(f"job-{number}") for number in range(300)]
        for word in (b"one", b"two"):
            for key in keys:
                await spool.append(key, 1, "stdout", word)
        assert _open_files(tmp_path) <= 256
        for key in (keys[0], keys[-1]):
            assert [line.data for line in await read_all(spool, key)] == [b"one", b"two"]
        await spool.close()
        assert _open_files(tmp_path) == 0

    asyncio.run(main())


def _open_files(root: Path) -> int:
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sum(link.readlink().is_relative_to(root) for link in links)


def test_no_memory_is_kept_of_removed_logs(tmp_path: Path) -> None:
    """A box runs for years."""

    async def jobs(spool: FileSpool, numbers: range) -> int:
        for number in numbers:
            key = key_of(f"job-{number}")
            await spool.append(key, 1, "stdout", b"x")
            await spool.read(key, Position())
            await spool.seal(key, 1)
            await spool.remove(key)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    async def main() -> None:
        spool = open_in(tmp_path)
        tracemalloc.start()
        try:
            early = await jobs(spool, range(100))
            late = await jobs(spool, range(100, 400))
        finally:
            tracemalloc.stop()
        assert late - early < 300 * 64

    asyncio.run(main())
