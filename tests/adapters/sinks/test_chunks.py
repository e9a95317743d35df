"""How records become chunks, and what is written of them."""

from __future__ import annotations

import msgspec

from adapters.sinks.chunks import CHUNK_BYTES, chunks
from adapters.sinks.log_text import harmless, shown, told_time
from adapters.sinks.syslog_text import MESSAGE_BYTES, SyslogForm, parts
from runner.job import Key
from runner.log_json import log_json
from runner.ports import Gap, LogLine
from runner.receipt import Event

KEY = Key("digits.0123456789abcdef")


def test_a_chunk_has_the_last_position_and_the_first_time() -> None:
    lines = [LogLine(1, at, 100 + at, "stdout", b"%d\n" % at) for at in range(3)]
    assert [LogLine(1, 2, 100, "stdout", b"0\n1\n2\n")] == list(chunks(lines))


def test_chunks_end_where_stream_attempt_or_size_do() -> None:
    """Records are never cut, and what is missing stands alone."""
    whole = b"x" * CHUNK_BYTES
    lines = [
        LogLine(1, 0, 0, "stdout", b"a"),
        LogLine(1, 1, 0, "stderr", b"b"),
        LogLine(2, 2, 0, "stderr", b"c"),
        LogLine(2, 3, 0, "stderr", whole),
        LogLine(2, 4, 0, "stderr", whole + b"y"),
        LogLine(2, 5, 0, "stderr", b"d"),
        LogLine(2, 6, 0, "gap", b"{}"),
        LogLine(2, 7, 0, "gap", b"{}"),
    ]
    assert lines == list(chunks(lines))
    half = [LogLine(1, at, 0, "stdout", b"x" * (CHUNK_BYTES // 2)) for at in range(5)]
    assert [CHUNK_BYTES, CHUNK_BYTES, CHUNK_BYTES // 2] == [len(it.data) for it in chunks(half)]


def test_bytes_stand_beside_text_only_where_text_loses_them() -> None:
    plain = msgspec.json.decode(log_json(LogLine(1, 2, 1_500_000_000, "stdout", "ü\x1b\n".encode())))
    assert {"attempt": 1, "sequence": 2, "at": 1.5, "stream": "stdout", "text": "ü\x1b\n"} == plain
    broken = msgspec.json.decode(log_json(LogLine(1, 2, 0, "stdout", b"\xfc")))
    assert ("\ufffd", "/A==") == (broken["text"], broken["data"])


def test_text_obeys_nobody() -> None:
    """Tabs and newlines stay; what a terminal would obey is spelled."""
    assert harmless(b"a\tb\r\n\x1b[2J\rc\x00\x9b\xff\xc2\x9b\xe2\x80\xa8") == (
        "a\tb\n\\x1b[2J\\x0dc\\x00\\x9b\\xff\\x9b\\u2028"
    )
    assert told_time(1_767_225_600_000_001_999) == "2026-01-01T00:00:00.000001Z"


def test_what_is_missing_is_told_in_words() -> None:
    gap = Gap("stdout", 12, None, "the log was cut\x1b")
    assert shown(LogLine(1, 0, 0, "gap", msgspec.json.encode(gap))) == (
        "12 bytes of stdout missing here: the log was cut\\x1b\n"
    )
    assert shown(LogLine(1, 0, 0, "gap", b"{}")) == "output missing here\n"
    assert shown(LogLine(1, 0, 0, "gap", b"\x1b")) == "\\x1b\n"


def test_a_message_to_a_host_is_of_rfc_5424() -> None:
    line = LogLine(2, 7, 1_767_225_600_000_000_000, "stderr", b"one\n\ntwo")
    before = b'<13>1 2026-01-01T00:00:00.000000Z box_1 runner digits stderr [runner@32473 attempt="2" sequence="7"] '
    assert [before + text for text in (b"one", b"", b"two")] == list(SyslogForm("box 1").line(line, KEY, "digits"))
    (event,) = SyslogForm("h").event(Event(KEY, "a b", 0.0, "ended", message="it\nfailed"), KEY, "a b")
    assert event.startswith(b"<13>1 1970-01-01T00:00:00.000000Z h runner h")
    assert event.endswith(b" event - ended: it failed")


def test_long_lines_are_cut_in_parts_between_characters() -> None:
    text = "ü" * 3000
    found = list(parts(b"before ", text))
    assert [b"before [1/3] ", b"before [2/3] ", b"before [3/3] "] == [it[:13] for it in found]
    assert all(len(it) <= MESSAGE_BYTES for it in found)
    assert text == "".join(it[13:].decode() for it in found)
    assert [b"before " + b"x" * (MESSAGE_BYTES - 7)] == list(parts(b"before ", "x" * (MESSAGE_BYTES - 7)))
