"""
What a terminal would show of lines that were overwritten with carriage returns, such as progress bars. Pure.

Of the states of one line those are left out that later ones cover whole. What cannot be judged stays as it is: control
bytes, escape sequences but for colours and erasing to the end of the line, bytes that are no UTF-8, text that begins at
an unknown column, and whatever another stream wrote between. Holds for terminals on which no line wraps.
"""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby

import msgspec

from runner.ports import LogLine

RESET = b"\x1b[0m"
EVERYTHING = 1 << 62
"""As wide as whatever stood on the row."""
_PLAIN = bytes(range(0x20, 0x7F)) + b"\r"
_ESCAPE = re.compile(rb"\x1b\[[0-9;]*[mK]")
_ERASES_FIRST = re.compile(rb"\x1b\[[02]?K")
_ERASES_LAST = re.compile(rb"\x1b\[0?K\Z")
_COLOUR = re.compile(rb"\x1b\[[0-9;]*m")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]|\xc2[\x80-\x9f]")


class _State(msgspec.Struct, frozen=True):
    """One state of a line: how many columns it writes, whether the rest of the row is blank then, and its colours."""

    columns: int
    erases: bool = False
    colours: bool = False


def coalesced(lines: Sequence[LogLine]) -> tuple[LogLine, ...]:
    """Return the records without what was overwritten; one of which nothing is left is left out, the others stay."""
    runs = (list(run) for _, run in groupby(lines, key=lambda line: (line.attempt, line.stream)))
    return tuple(line for run in runs for line in _run(run))


def _run(run: list[LogLine]) -> list[LogLine]:
    """Go through consecutive records of one stream as through one text."""
    if run[0].stream not in {"stdout", "stderr"} or not any(b"\r" in line.data for line in run):
        return run
    text = b"".join(line.data for line in run)
    if text.count(b"\r") == text.count(b"\r\n"):
        return run
    left = deque(_left_out(text))
    kept: list[LogLine] = []
    start = 0
    for line in run:
        end = start + len(line.data)
        data = _between(text, left, start, end)
        if data or not line.data:
            kept.append(msgspec.structs.replace(line, data=data) if data != line.data else line)
        start = end
    return kept


def _between(text: bytes, left: deque[tuple[int, int, bytes]], start: int, end: int) -> bytes:
    """Return the text of one record without what is left out; what stands for that is where it begins."""
    parts: list[bytes] = []
    while left and left[0][0] < end:
        begins, ends, instead = left[0]
        parts += [text[start:begins], instead if begins >= start else b""]
        start = max(start, min(ends, end))
        if ends > end:
            break
        left.popleft()
    return b"".join([*parts, text[start:end]])


def _left_out(text: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield what to leave out, in order: from where, to where, and what to write instead."""
    start = 0
    for row in text.split(b"\n"):
        if b"\r" in row:
            of_row = _of_row if row.translate(None, _PLAIN) else _of_plain_row
            yield from sorted(of_row(row, start, known=start > 0))
        start += len(row) + 1


def _of_plain_row(row: bytes, start: int, *, known: bool) -> Iterator[tuple[int, int, bytes]]:
    """Do as ``_of_row`` does, many times faster, where every byte is one column."""
    states = row.split(b"\r")
    covered, end, hidden_to = 0, start + len(row), 0
    for place in range(len(states) - 1, -1 if known else 0, -1):
        columns = len(states[place])
        if 0 < columns <= covered:
            hidden_to = hidden_to or end
        elif hidden_to:
            yield end, hidden_to, b""
            hidden_to = 0
        covered = max(covered, columns)
        end -= columns + (place > 0)
    if hidden_to:
        yield end, hidden_to, b""


def _of_row(row: bytes, start: int, *, known: bool) -> Iterator[tuple[int, int, bytes]]:
    """Go backwards through the states of a row, which begins in the first column where that is ``known``."""
    covered, end, needs_reset = 0, start + len(row), False
    states = row.split(b"\r")
    last = len(states) - 1  # after it the cursor stays
    for place in range(last, -1, -1):
        state = _judge(states[place])
        begin = end - len(states[place]) - (place > 0)
        is_hidden = state is not None and (known or place > 0) and place < last and _is_covered(state, covered)
        if is_hidden and begin < end and states[place]:
            yield begin, end, RESET if state is not None and state.colours and not needs_reset else b""
            needs_reset = needs_reset or (state is not None and state.colours)
        elif not is_hidden:
            covered = 0 if state is None else max(covered, EVERYTHING if state.erases else state.columns)
            needs_reset = False
        end = begin


def _is_covered(state: _State, covered: int) -> bool:
    return covered == EVERYTHING or (state.columns <= covered and not state.erases)


def _judge(text: bytes) -> _State | None:
    """Say what one state of a line does to its row; None where that is not known."""
    bare = _ESCAPE.sub(b"", text)
    if _CONTROL.search(bare):
        return None
    erases = bool(_ERASES_FIRST.match(text) or _ERASES_LAST.search(text))
    colours = _COLOUR.findall(text)
    if (colours and colours[-1] not in {b"\x1b[m", RESET}) or not _erases_at_its_ends_only(text):
        return None
    try:
        return _State(_columns(bare), erases, bool(colours))
    except UnicodeDecodeError:
        return None


def _erases_at_its_ends_only(text: bytes) -> bool:
    inner = _ERASES_LAST.sub(b"", _ERASES_FIRST.sub(b"", text, count=1) if _ERASES_FIRST.match(text) else text)
    return b"K" not in {escape[-1:] for escape in _ESCAPE.findall(inner)}


def _columns(text: bytes) -> int:
    return len(text) if text.isascii() else sum(map(_width, text.decode()))


@lru_cache(4096)
def _width(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1
