"""What slow sinks get of progress bars: less, and at the end a terminal shows the same."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.logs.coalescing import coalesced
from runner.ports import LogLine

pytestmark = pytest.mark.integration

PARTS = [
    b"\r", b"\r", b"\r", b"\n", b"\r\n", b"5%", b" 45%|", b"100% done", b"\x1b[31m", b"\x1b[0m", b"\x1b[m", b"\x1b[K",
    b"\x1b[2K", b"\x1b[1K", "█▌".encode(), "日本".encode(), "e\u0301".encode(), b"\xff", b"\x1b[A", b"\x07",
    b"\b", b"\t", b" ",
]  # fmt: skip
TOKEN = re.compile(r"\x1b\[([0-9;]*)([A-Za-z])|(.)", re.DOTALL)
WIDE = 400


class Terminal:
    """Rows of cells, each a character and its colours; wide enough that nothing wraps."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[int, tuple[str, str]]] = {}
        self.row = self.column = 0
        self.colours = ""

    def show(self, data: bytes) -> Terminal:
        for match in TOKEN.finditer(data.decode(errors="surrogateescape")):
            how, what, character = match.groups()
            if character is not None:
                self._put(character)
            else:
                self._obey(how, what)
        return self

    def _obey(self, how: str, what: str) -> None:
        cells = self.rows.setdefault(self.row, {})
        if what == "m":
            self.colours = "" if how in {"", "0"} else self.colours + how
        elif what == "A":
            self.row -= 1
        elif what == "K":
            begins, ends = {"": (self.column, WIDE), "1": (0, self.column + 1), "2": (0, WIDE)}[how]
            for column in range(begins, ends):
                cells.pop(column, None)

    def _put(self, character: str) -> None:
        match character:
            case "\r":
                self.column = 0
            case "\n":
                self.row, self.column = self.row + 1, 0
            case "\b":
                self.column = max(0, self.column - 1)
            case "\t":
                self.column += 8 - self.column % 8
            case "\x07":
                pass
            case _:
                self._write(character)

    def _write(self, character: str) -> None:
        cells = self.rows.setdefault(self.row, {})
        if unicodedata.combining(character):
            if (before := cells.get(self.column - 1)) is not None:
                cells[self.column - 1] = before[0] + character, before[1]
            return
        for _ in range(2 if unicodedata.east_asian_width(character) == "W" else 1):
            cells[self.column] = character, self.colours
            self.column += 1

    def seen(self) -> tuple[object, ...]:
        rows = {number: cells for number, cells in self.rows.items() if cells}
        return rows, self.row, self.column, self.colours


def records(*data: bytes, streams: tuple[str, ...] = ("stdout",)) -> list[LogLine]:
    return [LogLine(1, number, number, streams[number % len(streams)], it) for number, it in enumerate(data)]


def text(lines: tuple[LogLine, ...] | list[LogLine]) -> bytes:
    return b"".join(line.data for line in lines)


@given(
    before=st.lists(st.sampled_from(PARTS), max_size=6),
    pieces=st.lists(st.lists(st.sampled_from(PARTS), max_size=8), max_size=8),
    streams=st.lists(st.sampled_from(["stdout", "stderr"]), min_size=1, max_size=3),
)
def test_a_terminal_shows_the_same_at_the_end(
    before: list[bytes], pieces: list[list[bytes]], streams: list[str]
) -> None:
    """Whatever it showed before, and however the bytes were cut into records."""
    lines = records(*(b"".join(piece) for piece in pieces), streams=tuple(streams))
    shown = coalesced(lines)
    first = b"".join(before)
    assert Terminal().show(first + text(lines)).seen() == Terminal().show(first + text(shown)).seen()
    by_place = {line.sequence: line for line in lines}
    places = [line.sequence for line in shown]
    assert places == sorted(set(places))
    assert all((line.stream, line.at_ns) == (by_place[line.sequence].stream, line.sequence) for line in shown)


@pytest.mark.parametrize(("written", "left"), [
    ([b"\r 1%", b"\r 2%", b"\r100%\n"], b"\r100%\n"),
    ([b"start\n", b" 1%\r 2%\r 3%\r\nend\n"], b"start\n\r 3%\r\nend\n"),
    ([b"\r100% done", b"\r5%"], b"\r100% done\r5%"),
    ([b"\r100% done", b"\r5%\x1b[K"], b"\r5%\x1b[K"),
    ([b"\rlonger", b"\r\x1b[2Kshort"], b"\r\x1b[2Kshort"),
    ([b"\r\x1b[31m10%\x1b[0m", b"\r20%"], b"\x1b[0m\r20%"),
    ([b"known from before", b"\rover it and more"], b"known from before\rover it and more"),
    ([b"plain\r\nlines\r\n"], b"plain\r\nlines\r\n"),
    ([b"\r 1\xff", b"\r 2\xff"], b"\r 1\xff\r 2\xff"),
])  # fmt: skip
def test_only_what_was_overwritten_whole_is_left_out(written: list[bytes], left: bytes) -> None:
    assert left == text(coalesced(records(*written)))


def test_what_another_stream_wrote_between_keeps_both_sides() -> None:
    lines = records(b"\r 1%", b"oops\n", b"\r 2%", streams=("stdout", "stderr"))
    assert lines == list(coalesced(lines))


def test_a_long_progress_bar_leaves_one_record_and_its_position() -> None:
    lines = records(*(b"\r%5d of 10000" % number for number in range(10_000)))
    assert (lines[-1],) == coalesced(lines)


def test_what_is_not_output_stays() -> None:
    lines = [LogLine(1, 0, 0, "runner", b"\ra\rb"), LogLine(1, 1, 0, "gap", b"\r\r")]
    assert lines == list(coalesced(lines))
