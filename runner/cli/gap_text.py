"""What is missing of a job's output, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from runner.ports import Gap
from runner.units import format_size

if TYPE_CHECKING:
    from runner.ports import LogLine


def gap_of(line: LogLine) -> Gap:
    """Read a record of stream ``gap``; one that nobody can read says that something is missing."""
    try:
        return msgspec.json.decode(line.data, type=Gap)
    except (msgspec.DecodeError, UnicodeError):
        return Gap()


def gap_text(gap: Gap) -> str:
    """Say how much of what is missing in this place, and why."""
    of = gap.stream or "the output"
    reason = f": {gap.reason}" if gap.reason else ""
    if not gap.bytes:
        lines = "some" if not gap.lines else "1 line" if gap.lines == 1 else f"{gap.lines} lines"
        return f"{lines} of {of} {'is' if lines in {'some', '1 line'} else 'are'} missing here{reason}"
    lines = f" ({gap.lines} lines)" if gap.lines else ""
    return f"~{format_size(gap.bytes)}{lines} of {of} are missing here{reason}"


def gaps_text(gaps: int) -> str:
    """Say in how many places a log is not whole."""
    return "some of it is missing in one place" if gaps == 1 else f"some of it is missing in {gaps} places"
