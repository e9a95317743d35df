"""Logs as text for people: ``time stream text``, line by line, with nothing in it that a terminal would obey. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import msgspec

from runner.ports import Gap, LogLine
from runner.receipt import Event

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def harmless(data: bytes) -> str:
    """Decode, with control bytes but tab and newline escaped, and what is not UTF-8; line ends become newlines."""
    text = data.decode("utf-8", "backslashreplace").replace("\r\n", "\n")
    return _CONTROL.sub(_escaped, text)


def shown(line: LogLine) -> str:
    """Return the text of a record: what is missing is told in words."""
    return f"{_missing(line.data)}\n" if line.stream == "gap" else harmless(line.data)


def _missing(document: bytes) -> str:
    try:
        gap = msgspec.json.decode(document, type=Gap)
    except msgspec.DecodeError:
        return harmless(document).replace("\n", " ")
    size = "output" if gap.bytes is None else f"{gap.bytes} bytes"
    lines = "" if gap.lines is None else f", {gap.lines} lines,"
    stream, reason = (f" of {gap.stream}" if gap.stream else ""), (f": {gap.reason}" if gap.reason else "")
    return harmless(f"{size}{lines}{stream} missing here{reason}".encode()).replace("\n", " ")


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"  # noqa: PLR2004 - two digits


def told_time(at_ns: int) -> str:
    """Write a time to the microsecond, in UTC."""
    seconds, rest_ns = divmod(at_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns // 1000:06d}Z"


def text_lines(line: LogLine, about: str) -> tuple[str, str]:
    """
    Return what stands before each line, and the text with it between its lines.

    ``about`` says whose they are where that is not plain. The text does not begin with what stands before the first.
    """
    before = f"{told_time(line.at_ns)} {about}{line.stream} "
    text = shown(line)
    inner, end = (text[:-1], "\n") if text.endswith("\n") else (text, "")
    return before, inner.replace("\n", f"\n{before}") + end


def event_text(event: Event) -> str:
    """Return a state change in words."""
    said = ": ".join(dict.fromkeys(part for part in (event.end_reason or event.state, event.message) if part))
    return harmless(said.encode("utf-8", "replace")).replace("\n", " ")
