"""What is the file format's about spools: full disks, used-up inodes, removal, few open files, bounded memory."""

from __future__ import annotations

import asyncio
import gc
import os
import tracemalloc
from pathlib import Path

import pytest

from adapters.spool import FileSpool, SpoolStats
from runner.errors import OutOfSpace
from runner.ports import Position
from tests.adapters.spool_harness import file_of, open_in, read_all
from tests.adapters.spool_writer import KEY
from tests.conformance.records import key_of
from tests.tiny_disk import free_bytes


def test_a_full_disk_is_out_of_space_and_passes(small_disk: Path) -> None:
    """A record that did not fit leaves no trace, and the log goes on when there is room again."""

    async def main() -> None:
        spool, written, piece = open_in(small_disk), 0, os.urandom(30_000)
        await spool.append(KEY, 1, "stdout", b"first\n")
        ballast = small_disk / "ballast"
        ballast.write_bytes(b"x" * (free_bytes(small_disk) - 200_000))
        while await _fits(spool, piece):
            written += 1
        ballast.unlink()
        await spool.append(KEY, 1, "stdout", b"last\n")
        expected = [b"first\n", *[piece] * written, b"last\n"]
        assert [line.data for line in await read_all(spool)] == expected
        assert [line.data for line in await read_all(open_in(small_disk))] == expected
        assert await spool.stats(KEY, 1) == SpoolStats(b"".join(expected).count(b"\n"), sum(map(len, expected)))
        assert 1 <= written <= 6
        await spool.close()

    asyncio.run(main())


def test_a_segment_that_found_no_room_begins_later(small_disk: Path) -> None:
    """The disk may be full, in bytes or in inodes, just as a segment ends; nothing is written to the wrong place."""

    async def main() -> None:
        spool, piece, written = FileSpool(str(small_disk / "spool"), lambda: 7, segment_bytes=5000), os.urandom(1000), 0
        for _ in range(12):
            await spool.append(KEY, 1, "stdout", piece)
        for fill in (_use_up_inodes, _use_up_bytes):
            fill(small_disk)
            while await _fits(spool, piece):
                written += 1
            before = await spool.bytes_written(KEY, 1)
            assert before["stdout"] == sum(len(line.data) for line in await read_all(spool))
            for path in small_disk.glob("[b0-9]*"):
                path.unlink()
            await spool.append(KEY, 1, "stdout", piece)
            written += 1
        assert [line.data for line in await read_all(open_in(small_disk))] == [piece] * (12 + written)
        assert len(_names(file_of(small_disk).parent)) == -(-(12 + written) // 5)
        await spool.close()

    asyncio.run(main())


def _use_up_bytes(disk: Path) -> None:
    (disk / "ballast").write_bytes(b"x" * (free_bytes(disk) // 4096 * 4096))


def test_a_middle_that_finds_no_room_to_be_dropped_stays(small_disk: Path) -> None:
    """Dropping needs a file of its own for a moment; where there is none, nothing is lost and the log goes on."""

    async def main() -> None:
        spool = FileSpool(str(small_disk / "spool"), lambda: 7, segment_bytes=20_000)
        pieces = [os.urandom(1000) for _ in range(100)]
        for piece in pieces:
            await spool.append(KEY, 1, "stdout", piece)
        _use_up_inodes(small_disk)
        with pytest.raises(OutOfSpace):
            await spool.drop_middle(KEY, 1, 10_000, 10_000)
        assert [line.data for line in await read_all(spool)] == pieces
        for path in small_disk.glob("[0-9]*"):
            path.unlink()
        assert await spool.drop_middle(KEY, 1, 10_000, 10_000) > 0
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
