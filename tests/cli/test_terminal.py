"""What is for terminals only: the screen of help, colours, widths; and what stays off them."""

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pytest

from runner.cli.output import clock
from runner.cli.process_log import JsonLines, PlainLines, set_up
from runner.secret import Secret
from tests.cli.boxes import ended, running, waiting, write_box
from tests.cli.dead_letters import JOB, write_letters
from tests.cli.terminals import on_terminal
from tests.cli.typed import typed


@pytest.mark.integration
def test_the_bare_command_without_a_source_shows_one_screen_of_help_and_ends_64() -> None:
    """A newcomer types `runner` first."""
    seen = on_terminal()
    assert seen.status == 64
    assert seen.lines[0].startswith("usage: runner [run]")
    assert len(seen.lines) <= 40


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Return a state directory with one job of each kind."""
    write_box(tmp_path, ended("typo-1"), running("a-job-with-quite-a-long-name-1"), waiting("gpu-two"))
    return tmp_path


@pytest.mark.integration
def test_a_table_is_coloured_on_a_terminal(state: Path) -> None:
    """The failed one is seen at a glance."""
    seen = on_terminal("ps", "--all", "--state-dir", state)
    assert "\x1b[31mfailed" in seen.text


@pytest.mark.integration
def test_no_color_is_respected(state: Path) -> None:
    """See no-color.org."""
    seen = on_terminal("ps", "--all", "--state-dir", state, environ={"NO_COLOR": "1"})
    assert "\x1b[31m" not in seen.text
    assert "failed" in seen.text


@pytest.mark.integration
@pytest.mark.parametrize("columns", [30, 60, 200])
def test_lines_fit_the_terminal_and_the_job_stays_readable(state: Path, columns: int) -> None:
    """A narrow window cuts cells, it does not wrap rows."""
    seen = on_terminal("ps", "--all", "--state-dir", state, columns=columns, environ={"NO_COLOR": "1"})
    assert len(seen.lines) == 4
    assert all(len(line) <= columns for line in seen.lines)
    assert [line[:6] for line in seen.lines[1:]] == ["gpu-tw", "a-job-", "typo-1"]


@pytest.mark.integration
@pytest.mark.parametrize("columns", [30, 80])
def test_why_something_was_rejected_is_read_on_a_narrow_terminal_too(tmp_path: Path, columns: int) -> None:
    """The list is looked at for the reason: it goes on in the next line, and other cells only where they must."""
    write_letters(tmp_path / "q", JOB, reason=f"no such key{'.' * 150}; did you mean command?")
    seen = on_terminal("dead", "list", "--queue", f"folder://{tmp_path}/q", columns=columns)
    assert all(len(line) <= columns for line in seen.lines)
    assert "command?" in re.sub(r"\s", "", "".join(seen.lines))
    assert columns < 80 or seen.lines[1].startswith(f"{'a' * 12}  digits-1  ")


def test_off_a_terminal_nothing_is_cut(state: Path) -> None:
    """A script reads whole ids, however wide."""
    assert "a-job-with-quite-a-long-name-1" in typed("ps", "--state-dir", state).out


def _record(formatter: logging.Formatter, **extra: object) -> str:
    logger = logging.getLogger("a.b")
    record = logger.makeRecord("a.b", logging.INFO, "f", 1, "a job ended", (), None, extra=extra)
    return formatter.format(record)


def test_the_service_speaks_json_off_a_terminal() -> None:
    """One document a line, the facts by name, a secret as its mask."""
    said = json.loads(_record(JsonLines(), action="end", job_id="x-1", password=Secret("hunter2")))
    said.pop("at")
    assert {
        "level": "info",
        "message": "a job ended",
        "logger": "a.b",
        "action": "end",
        "job_id": "x-1",
        "password": "***",
    } == said


def test_the_service_speaks_plainly_on_a_terminal() -> None:
    """Time, level, sentence, facts."""
    said = _record(PlainLines(), action="end", job_id="x-1", password=Secret("hunter2"))
    assert said[8:] == " INFO    a job ended  job_id=x-1 password=***"


def test_a_traceback_stays_in_one_document() -> None:
    """A line that is no JSON breaks whoever collects logs."""
    with logging_to_text("info") as stream:
        try:
            int("boom")
        except ValueError:
            logging.getLogger("a").exception("it failed")
    (line,) = stream.getvalue().splitlines()
    assert "ValueError: invalid literal" in json.loads(line)["traceback"]


@pytest.mark.parametrize("library", ["botocore.auth", "aiormq.connection", "redis", "runners", "asyncio"])
def test_libraries_say_nothing_below_info(library: str) -> None:
    """There they write tokens, keys and whole messages."""
    with logging_to_text("debug") as stream:
        logging.getLogger(library).debug("X-Amz-Security-Token: hunter2")
        logging.getLogger(library).warning("from a library")
        logging.getLogger("adapters.queues").debug("from us")
    said = [json.loads(line)["message"] for line in stream.getvalue().splitlines()]
    assert said == ["from a library", "from us"]


def test_what_a_client_library_says_at_each_attempt_is_left_to_us_to_say_once() -> None:
    """A broker that is away for a night fills no log."""
    with logging_to_text("info") as stream:
        logging.getLogger("aiormq.connection").error("error when creating transport")
    assert not stream.getvalue()


@contextmanager
def logging_to_text(level: str) -> Iterator[StringIO]:
    """Log as a runner does, and no more afterwards."""
    stream = StringIO()
    before = logging.root.handlers[:], logging.root.level
    try:
        set_up(level, stream)
        yield stream
    finally:
        logging.root.handlers[:], root_level = before
        logging.root.setLevel(root_level)
        logging.captureWarnings(capture=False)


@pytest.mark.parametrize("epoch_s", [1e308, -1e308, 1e18, float("inf"), float("nan")])
def test_a_moment_that_no_calendar_has_is_left_out(epoch_s: float) -> None:
    """Times of a message are its sender's."""
    assert clock(epoch_s) == ""
