"""Which part of a log is shown: the last lines of it above all, over any cut of it into records."""

import argparse
import time
import tracemalloc
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.cli.log_choice import LINE_MAX_BYTES, Choice, LastLines, add_choice, choice_of
from runner.cli.parser import Parser
from runner.ports import LogLine
from runner.receipt import Event

TEXT = st.lists(st.sampled_from([b"a", b"bb", b"\n", b"\r"]), max_size=12).map(b"".join)
RECORDS = st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), TEXT.filter(bool)), max_size=12)


def records(*written: tuple[str, bytes]) -> list[LogLine]:
    return [LogLine(1, number, number, stream, data) for number, (stream, data) in enumerate(written)]


def last(count: int, *told: LogLine | Event) -> list[LogLine | Event]:
    kept = LastLines(count)
    for one in told:
        kept.add(one)
    return list(kept.told())


def written(told: Iterable[LogLine | Event], *streams: str) -> bytes:
    lines = [one for one in told if isinstance(one, LogLine)]
    return b"".join(line.data for line in lines if not streams or line.stream in streams)


@given(st.integers(0, 6), TEXT, st.lists(st.integers(0, 30), max_size=5))
def test_of_one_stream_it_is_what_tail_shows_however_it_is_cut(count: int, text: bytes, cuts: list[int]) -> None:
    """A record may hold many lines, and a line many records."""
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    parts = [text[a:b] for a, b in pairwise(places) if a < b]
    told = last(count, *records(*(("stdout", part) for part in parts)))
    lines = text.split(b"\n")
    whole = [line + b"\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
    assert b"".join(whole[-count:] if count else []) == b"".join(
        line.data for line in told if isinstance(line, LogLine)
    )


@given(st.integers(0, 6), RECORDS)
def test_of_several_streams_each_keeps_its_end_and_the_order_stays(count: int, text: list[tuple[str, bytes]]) -> None:
    given_ = records(*text)
    told = [line for line in last(count, *given_) if isinstance(line, LogLine)]
    assert sorted(line.sequence for line in told) == [line.sequence for line in told]
    assert len({line.sequence for line in told}) == len(told)
    for line in told:
        assert given_[line.sequence].data.endswith(line.data) or line.data in given_[line.sequence].data
    for stream in ("stdout", "stderr"):
        assert written(given_, stream).endswith(written(told, stream))


def test_state_changes_go_with_the_line_before_them() -> None:
    event = Event("k", "a", 1.0, "running")
    one, two, three = records(("stdout", b"1\n"), ("stdout", b"2\n"), ("stdout", b"3\n"))
    assert [two, event, three] == last(2, event, one, two, event, three)
    assert [three] == last(1, one, two, event, three)


def test_little_is_held_of_a_long_log() -> None:
    """Ten lines of a million, and a line that never ends, take no room."""
    kept = LastLines(10)
    tracemalloc.start()
    for number in range(3000):
        kept.add(LogLine(1, number, 0, "stdout", b"%d\n" % number * 50))
        kept.add(LogLine(1, number, 0, "stderr", b"\r%d" % number * 4000))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 3 * LINE_MAX_BYTES
    assert b"2999\n" * 10 == written(kept.told(), "stdout")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--since", "yesterday"], "--since: 'yesterday' is neither: write a duration, like 10m or 1h30m, or a time"),
        (["--since", ""], "--since: '' is neither"),
        (["--tail", "-1"], "--tail: '-1' is no number of lines: write a whole one from 0 up"),
        (["--tail", "ten"], "--tail: 'ten' is no number of lines"),
        (["--stream", "stdin"], "--stream: 'stdin' is none of stdout, stderr, runner"),
    ],
)
def test_a_value_that_will_not_do_is_one_sentence(
    words: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="64"):
        chosen(*words)
    said = capsys.readouterr().err
    assert (1, True) == (len(said.splitlines()), problem in said)


def chosen(*words: str) -> Choice:
    parser = Parser(prog="logs")
    add_choice(parser)
    return choice_of(parser.parse_args(words, argparse.Namespace()))


def test_when_is_a_duration_or_a_time() -> None:
    """With an offset it is that, without one the reader's own."""
    assert abs(time.time() - 600 - chosen("--since", "10m").since_ns / 1e9) < 5
    assert 1772373600 * 10**9 == chosen("--since", "2026-03-01T14:00:00Z").since_ns
    assert 1772373600 * 10**9 == chosen("--since", "2026-03-01T15:00+01:00").since_ns
    assert int(time.mktime((2026, 3, 1, 0, 0, 0, 0, 0, -1))) * 10**9 == chosen("--since", "2026-03-01").since_ns


def test_streams_are_chosen_by_name_and_a_gap_goes_with_the_stream_it_is_in() -> None:
    of_stdout, of_both = (LogLine(1, 0, 9, "gap", data) for data in (b'{"stream":"stdout"}', b"{}"))
    chosen_ = Choice(frozenset({"stderr"}), since_ns=5)
    assert [False, True] == [chosen_.wants(gap) for gap in (of_stdout, of_both)]
    assert [False, True, True] == [chosen_.wants(LogLine(1, 0, at, "stderr", b"x")) for at in (4, 5, 0)]
    assert not Choice(frozenset({"runner"})).wants(of_both)
    assert not chosen_.wants(Event("k", "a", 1.0, "running"))
