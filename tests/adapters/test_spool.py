"""What is the file format's about spools: kills at any byte, damage, other processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.spool import FileSpool
from runner.errors import ConfigurationError
from runner.ports import Position
from tests.adapters.spool_harness import file_of, open_in, read_all
from tests.adapters.spool_writer import KEY, pieces
from tests.kill_rounds import writer

ROUNDS, ROUNDS_A_LOG = 40, 5
LINES = 5000


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
    newer = b"RSPOOL\x00\x03" + file_of(tmp_path).read_bytes()[8:]
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
