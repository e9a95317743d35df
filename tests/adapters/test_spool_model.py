"""Whatever is done to a spool on disk, what is read back is what a list of records would say."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.spool import FileSpool
from runner.ports import Gap, LogLine, Position
from tests.adapters.spool_writer import KEY

pytestmark = pytest.mark.integration

HEADER_BYTES = 120
_APPENDS = st.tuples(
    st.just("append"), st.sampled_from(["stdout", "stderr", "runner", "event", "gap"]), st.integers(1, 6000)
)
_CUTS = st.tuples(st.just("cut"), st.just(""), st.integers(1, 8000))
_DROPS = st.tuples(st.just("drop"), st.just(""), st.integers(0, 12_000))
_OTHERS = st.tuples(st.sampled_from(["reopen", "seal"]), st.just(""), st.just(0))
_STEPS = st.lists(st.one_of(_APPENDS, _APPENDS, _APPENDS, _CUTS, _DROPS, _OTHERS), max_size=40)


class _Model:
    """A list of what was appended, and of how much was told to be missing."""

    def __init__(self) -> None:
        self.records: list[tuple[str, bytes]] = []
        # Whether half a record stands at the end.
        self.is_torn = False

    def append(self, stream: str, size: int) -> bytes:
        number = len(self.records)
        # Some can be packed and some cannot; some have newlines and some do not.
        data = (
            (b"%d\n" % number * size)[:size]
            if number % 2
            else bytes((number * 7 + at * at) % 256 for at in range(size))
        )
        self.records.append((stream, data))
        self.is_torn = False
        return data

    def check(self, lines: list[LogLine], start: int) -> None:
        """Check what was read from a record on: each record once, or within a gap that counts exactly."""
        expected = start
        for line in lines:
            standing = self.records[line.sequence] if line.sequence < len(self.records) else ("", b"")
            if line.sequence == expected and (line.stream, line.data) == standing:
                expected += 1
                continue
            assert line.stream == "gap"
            gap = msgspec.json.decode(line.data, type=Gap)
            missing = [
                data for stream, data in self.records[expected : line.sequence + 1] if stream in {"stdout", "stderr"}
            ]
            told = (gap.bytes, gap.lines)
            assert told == (sum(map(len, missing)), b"".join(missing).count(b"\n")) or (start and told == (None, None))
            expected = line.sequence + 1
        assert expected == max(start, len(self.records))


async def _read(spool: FileSpool, start: int, limit_bytes: int) -> list[LogLine]:
    lines: list[LogLine] = []
    position = Position(1, start)
    while found := await spool.read(KEY, position, limit_bytes):
        lines += found
        position = Position(1, found[-1].sequence + 1)
    return lines


def _last_segment(root: Path) -> Path | None:
    segments = [path for path in (root / KEY).glob("1*.spool") if "-" not in path.name]
    return max(segments, key=lambda path: int(path.name.split(".")[1].replace("spool", "0")), default=None)


def _cut(root: Path, model: _Model, size: int) -> None:
    """Do what a kill in the middle of the last write does: that record is not whole."""
    last = _last_segment(root)
    if last is None or model.is_torn or not model.records or last.stat().st_size <= HEADER_BYTES:
        return
    with last.open("rb+") as file:
        file.truncate(last.stat().st_size - 1 - size % 17)
    model.records.pop()
    model.is_torn = True


class _Run:
    """One spool, what is done to it, and the model of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.model = _Model()
        self._ticks = itertools.count(1)
        self._is_sealed = False
        self.spool = self.opened()

    def opened(self) -> FileSpool:
        return FileSpool(str(self.root), lambda: next(self._ticks), segment_bytes=9000)

    async def step(self, name: str, stream: str, size: int) -> None:
        match name:
            case "append" if not self._is_sealed:
                await self.spool.append(KEY, 1, stream, self.model.append(stream, size))
            case "cut" if not self._is_sealed:
                await self._reopened()
                _cut(self.root, self.model, size)
            case "drop" if self.model.records:
                await self.spool.drop_middle(KEY, 1, size, size // 2)
                self.model.is_torn = False
            case "reopen":
                await self._reopened()
            case "seal" if len(self.model.records) > 15:
                await self.spool.seal(KEY, 1)
                await self.spool.shed(KEY)
                self._is_sealed = True
            case _:
                pass

    async def check(self) -> None:
        written = await self.spool.bytes_written(KEY, 1)
        for name in ("stdout", "stderr", "runner", "event"):
            assert written[name] == sum(len(data) for stream, data in self.model.records if stream == name)

    async def _reopened(self) -> None:
        await self.spool.close()
        self.spool = self.opened()


async def _walk(root: Path, steps: list[tuple[str, str, int]]) -> None:
    it = _Run(root)
    for step in steps:
        await it.step(*step)
        await it.check()
    count = len(it.model.records)
    for start in {0, count // 2, count}:
        it.model.check(await _read(it.spool, start, 5000), start)
    it.model.check(await _read(it.opened(), 0, 1 << 20), 0)
    await it.spool.close()


@settings(max_examples=60, deadline=None)
@given(_STEPS)
def test_what_is_read_back_is_what_was_written(steps: list[tuple[str, str, int]]) -> None:
    """Appends, kills, new lives, dropped middles and shed records, in any order."""
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(_walk(Path(directory), steps))
