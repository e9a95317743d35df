"""
How commands print: aligned plain lines, or a table in colour on a terminal; JSON on demand.

Text that jobs and messages brought along is shown without control characters, so that none can repaint a terminal.
"""

from __future__ import annotations

import os
import re
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

COLUMN_GAP = "  "
PASSWORD = re.compile(r"(?<=://)[^/@\s]*@")
LEAST_COLUMNS = 2
WRAPPED_LEAST = 20
"""Where the other columns leave the last one less room, they are wrapped, too."""


def printable(value: object) -> str:
    """Return text on one line without control characters."""
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def print_json(document: object) -> None:
    """Print one document on one line."""
    import msgspec

    from runner.units import encode_hook

    print(msgspec.json.encode(document, enc_hook=encode_hook).decode())


def print_rows(heading: Sequence[str], rows: Sequence[Sequence[object]], *, wrap: bool = False) -> None:
    """
    Print a table whose columns come by their importance: whole and plain, or in colour on a terminal.

    There the last columns give way where the terminal is narrow, or with ``wrap`` the last goes on in the next line.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_table(heading, cells, wrap=wrap)
        return
    for line in aligned([list(heading), *cells]):
        print(line)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Pad cells to the widest of their column; the last column keeps its length."""
    widths = column_widths(rows)
    return [
        COLUMN_GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def column_widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """Return the width of the widest cell of each column."""
    return [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]


def columns_that_fit(widths: Sequence[int], room: int) -> int:
    """Return how many columns fit, at least two: the second is cut where even they do not."""
    shown = len(widths)
    while shown > LEAST_COLUMNS and sum(widths[:shown]) + len(COLUMN_GAP) * (shown - 1) > room:
        shown -= 1
    return shown


def _print_table(heading: Sequence[str], rows: Sequence[Sequence[str]], *, wrap: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    widths = column_widths([heading, *rows])
    shown = len(heading) if wrap else columns_that_fit(widths, console.width)
    others = sum(widths[:-1]) + len(COLUMN_GAP) * len(widths)
    wrapped = heading[-1:] if others + WRAPPED_LEAST <= console.width else heading
    table = Table(box=None, pad_edge=False, padding=(0, len(COLUMN_GAP), 0, 0), header_style="bold")
    for name in heading[:shown]:
        table.add_column(name, no_wrap=not wrap or name not in wrapped, overflow="fold" if wrap else "ellipsis")
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row[:shown]))
    console.print(table)


_STYLES = {
    "succeeded": "green", "ok": "green", "healthy": "green", "running": "cyan", "staging": "cyan", "storing": "cyan",
    "failed": "red", "fail": "red", "lost": "red", "rejected": "red", "warn": "yellow", "withheld": "yellow",
    "quarantined": "red", "cancelled": "yellow", "timeout": "red", "oom": "red",
}  # fmt: skip


def print_facts(facts: Sequence[tuple[str, object]]) -> None:
    """Print ``name  value`` lines, leaving out what is empty."""
    told = [(name, printable(value)) for name, value in facts if value not in ("", None, ())]
    width = max((len(name) for name, _ in told), default=0)
    for name, value in told:
        print(f"{name.ljust(width)}{COLUMN_GAP}{value}")


def say(sentence: str) -> None:
    """Tell whoever typed the command something beside its output."""
    print(f"runner: {printable(sentence)}", file=sys.stderr, flush=True)


def ago(epoch_s: float | None, now: float | None = None) -> str:
    """Say how long ago a moment was, ``-`` where there is none."""
    if epoch_s is None:
        return "-"
    from runner.units import format_duration

    return f"{format_duration(max(0.0, (time.time() if now is None else now) - epoch_s))} ago"


def clock(epoch_s: float | None) -> str:
    """Write a moment in local time, to the second; empty where there is none, or none that a calendar has."""
    try:
        return "" if epoch_s is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(epoch_s))
    except (OverflowError, OSError, ValueError):
        return ""


def lively(stream_name: str = "stderr") -> bool:
    """Tell whether a line may be redrawn: a terminal that can."""
    stream = sys.stderr if stream_name == "stderr" else sys.stdout
    return stream.isatty() and os.environ.get("TERM", "") not in {"", "dumb"}


def masked(text: str) -> str:
    """Return text with what stands before an ``@`` in a URL hidden."""
    return PASSWORD.sub("***@", text)
