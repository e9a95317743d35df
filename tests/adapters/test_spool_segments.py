"""What is the files' about spools of several segments: kills between any two steps, logs of the version before."""

from __future__ import annotations

import asyncio
import itertools
import struct
import zlib
from pathlib import Path

import msgspec
import pytest

from adapters.spool import FileSpool
from adapters.spool_tally import Tally
from runner.ports import Gap, LogLine, Position
from tests.adapters.spool_harness import read_all
from tests.adapters.spool_writer import KEY
from tests.kill_rounds import writer

PIECES = tuple(b"<%d>" % number + b"%d" % (number % 10) * (number * 37 % 90) + b"\n" for number in range(40))
SEGMENT_BYTES = 400


def _open(root: Path, segment_bytes: int = SEGMENT_BYTES) -> FileSpool:
    ticks = itertools.count(1)
    return FileSpool(str(root / "spool"), lambda: next(ticks), segment_bytes=segment_bytes)


def _files(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "spool" / KEY).iterdir()}


def _lay(root: Path, files: dict[str, bytes]) -> None:
    directory = root / "spool" / KEY
    directory.mkdir(parents=True, exist_ok=True)
    for path in directory.iterdir():
        path.unlink()
    for name, content in files.items():
        (directory / name).write_bytes(content)


async def _write(root: Path, pieces: tuple[bytes, ...]) -> None:
    spool = _open(root)
    for piece in pieces:
        await spool.append(KEY, 1, "stdout", piece)
    await spool.close()


async def _lines(root: Path) -> list[LogLine]:
    return await _all(_open(root))


async def _all(spool: FileSpool) -> list[LogLine]:
    lines: list[LogLine] = []
    position = Position()
    while found := await spool.read(KEY, position):
        lines += found
        position = Position(1, found[-1].sequence + 1)
    return lines


async def _goes_on(root: Path, size: int, sequence: int) -> None:
    """Append as the next life does, and see that it counts on from what stands."""
    assert (await _open(root).bytes_written(KEY, 1))["stdout"] == size
    spool = _open(root)
    await spool.append(KEY, 1, "stdout", b"after")
    last = (await _all(spool))[-1]
    assert (last.data, last.sequence) == (b"after", sequence)
    assert (await spool.bytes_written(KEY, 1))["stdout"] == size + 5
    await spool.close()


def _number(name: str) -> int:
    return int(name.split(".")[1]) if name != "1.spool" else 0


@pytest.mark.integration
def test_a_kill_at_any_byte_of_any_segment_costs_what_was_being_written(tmp_path: Path) -> None:
    """Each segment is the last one for a while, and each byte of it the last one to be written."""
    asyncio.run(_write(tmp_path, PIECES))
    whole = _files(tmp_path)
    names = sorted(whole, key=_number)
    assert len(names) > 5

    async def main() -> None:
        for place in (0, len(names) // 2, len(names) - 1):
            name, before = names[place], {name: whole[name] for name in names[:place]}
            for size in range(len(whole[name]) + 1):
                _lay(tmp_path, {**before, name: whole[name][:size], ".1.next": whole[name][: size // 3]})
                lines = await _lines(tmp_path)
                assert [line.data for line in lines] == list(PIECES[: len(lines)])
                assert len(lines) >= _number(name)
                await _goes_on(tmp_path, sum(map(len, PIECES[: len(lines)])), len(lines))

    asyncio.run(main())


def test_a_kill_between_any_two_steps_of_dropping_costs_nothing(tmp_path: Path) -> None:
    """Before the hole is there everything stands, afterwards all of it is gone for every reader."""

    async def drop() -> tuple[dict[str, bytes], dict[str, bytes], list[LogLine]]:
        spool = _open(tmp_path, 8000)
        for number in range(300):
            await spool.append(KEY, 1, "stdout", PIECES[number % 40])
        before = _files(tmp_path)
        assert await spool.drop_middle(KEY, 1, 2000, 3000) > 0
        after = await _all(spool)
        await spool.close()
        return before, _files(tmp_path), after

    async def main() -> None:
        before, after, expected = await drop()
        written = b"".join(PIECES[number % 40] for number in range(300))
        split = _split_off(before["1.spool"], len(after["1.spool"]))
        gone = [name for name in before if name not in after]
        states = [{**before, **split}, {**before, **split, "1.spool": after["1.spool"]}]
        for state in states:
            _lay(tmp_path, state)
            assert b"".join(line.data for line in await _lines(tmp_path)) == written
            await _goes_on(tmp_path, len(written), 300)
        states = [
            {**before, **split, **after},
            *({**after, **{name: before[name] for name in gone[kept:]}} for kept in range(len(gone))),
        ]
        for state in states:
            _lay(tmp_path, state)
            assert await _lines(tmp_path) == expected
            await _goes_on(tmp_path, len(written), 300)
            assert not set(_files(tmp_path)) & set(gone)

    asyncio.run(main())


def _split_off(segment: bytes, at: int) -> dict[str, bytes]:
    """Make the segment that holds what stands from an offset on, as it does before the hole is made."""
    tally = Tally()
    while len(tally.header()) + sum(17 + len(piece) for piece in (PIECES * 2)[: tally.records]) < at:
        tally.add("stdout", PIECES[tally.records % 40])
    return {f"1.{tally.records}.spool": tally.header() + segment[at:]}


@pytest.mark.integration
def test_logs_survive_kill_9_while_their_middle_is_dropped(tmp_path: Path) -> None:
    """Whatever instant it is, what stands and what is counted as missing is all that was acknowledged."""
    with writer("tests.adapters.spool_dropper") as killed:
        acknowledged = 0
        for seed in range(30):
            done = killed.round(tmp_path, seed)
            acknowledged = int(done[-1]) if done else acknowledged
            written = asyncio.run(_counted(tmp_path))
            assert written >= acknowledged, f"round {seed}: {acknowledged} acknowledged, {written} accounted for"
        assert acknowledged > 0


async def _counted(root: Path) -> int:
    """Check each standing record against its place in the stream; return how much is accounted for."""
    offset = 0
    for line in await _lines(root):
        if line.stream == "gap":
            gap = msgspec.json.decode(line.data, type=Gap)
            assert gap.bytes is not None
            assert gap.lines == gap.bytes // 100
            offset += gap.bytes
            continue
        assert line.data == (b"%099d\n" % (offset // 100))
        offset += len(line.data)
    assert (await _open(root).bytes_written(KEY, 1))["stdout"] == offset
    return offset


def test_a_log_of_the_version_before_is_read_and_gone_on_from(tmp_path: Path) -> None:
    """A job that runs across an upgrade keeps its log: what stands in the old file stays there."""
    old = b"RSPOOL\x00\x01" + b"".join(_old_frame(number, piece) for number, piece in enumerate(PIECES))
    size = sum(map(len, PIECES))

    async def main() -> None:
        _lay(tmp_path, {"1.spool": old + b"\x10torn"})
        assert [(line.at_ns, line.data) for line in await _lines(tmp_path)] == list(enumerate(PIECES))
        await _goes_on(tmp_path, size, len(PIECES))
        assert _files(tmp_path)["1.spool"] == old
        spool = _open(tmp_path)
        assert (await spool.seal(KEY, 1)).bytes == size + 5
        for beginning in (8, 3, 0):
            _lay(tmp_path, {"1.spool": old[:beginning]})
            await _goes_on(tmp_path, 0, 0)

    asyncio.run(main())


def _old_frame(at_ns: int, data: bytes) -> bytes:
    body = struct.pack("<QB", at_ns, 0) + data
    return struct.pack("<II", len(data), zlib.crc32(body)) + body


def test_a_segment_without_its_head_is_left_out(tmp_path: Path) -> None:
    """A power cut leaves a new file empty, or zeros in it; the log goes on behind what stands before."""
    asyncio.run(_write(tmp_path, PIECES))
    whole = _files(tmp_path)
    names = sorted(whole, key=_number)

    async def main() -> None:
        for rest in (b"", whole[names[-1]][:50], bytes(120), bytes(300)):
            _lay(tmp_path, {**whole, names[-1]: rest})
            records = _number(names[-1])
            assert [line.data for line in await _lines(tmp_path)] == list(PIECES[:records])
            spool = _open(tmp_path)
            await spool.append(KEY, 1, "stdout", b"after")
            assert [line.data for line in await _all(spool)] == [*PIECES[:records], b"after"]
            await spool.close()

    asyncio.run(main())


def test_a_damaged_segment_is_told_as_a_gap(tmp_path: Path) -> None:
    """What a disk lost in the middle of a log hides nothing behind it."""
    asyncio.run(_write(tmp_path, PIECES))
    names = sorted(_files(tmp_path), key=_number)
    damaged = bytearray(_files(tmp_path)[names[2]])
    damaged[200] ^= 1
    (tmp_path / "spool" / KEY / names[2]).write_bytes(damaged)

    async def main() -> None:
        lines = await _lines(tmp_path)
        gaps = [line for line in lines if line.stream == "gap"]
        assert [line.sequence for line in gaps] == [_number(names[3]) - 1]
        assert msgspec.json.decode(gaps[0].data, type=Gap).bytes is None
        assert [line.data for line in lines if line.stream != "gap"] == [
            PIECES[line.sequence] for line in lines if line.stream != "gap"
        ]
        assert lines[-1].sequence == len(PIECES) - 1

    asyncio.run(main())


@pytest.mark.parametrize("size", [5_000, 65_536, 262_144])
def test_large_records_are_stored_packed(tmp_path: Path, size: int) -> None:
    """Text takes a third of the disk and less; what cannot be packed takes what it is."""
    text = (b"2026-11-23T02:30:00 INFO step=%d loss=0.5\n" * (size // 20))[:size]

    async def main() -> None:
        spool = _open(tmp_path, 4 << 20)
        await spool.append(KEY, 1, "stdout", text)
        assert sum(map(len, _files(tmp_path).values())) < size // 3
        await spool.append(KEY, 1, "stdout", zlib.compress(text) * 3)
        assert [line.data for line in await read_all(spool)] == [text, zlib.compress(text) * 3]
        await spool.close()

    asyncio.run(main())
