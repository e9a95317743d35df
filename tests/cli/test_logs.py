"""``runner logs``: which part, in which form, and harmless where it is a terminal. On a box whose runner is down."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from adapters.spool import FileSpool
from runner.cli.gap_text import gap_text
from runner.cli.receipt_text import facts
from runner.job import make_key
from runner.ports import Gap
from runner.receipt import LogAccount, Receipt
from runner.records import StoreRecord
from tests.cli.boxes import ended, write_box, write_log
from tests.cli.terminals import on_terminal
from tests.cli.typed import LIMIT_S, Typed, clean_environ, typed

WRITTEN = (
    ("runner", b"pulled\n"),
    ("stdout", b"1\n2\n3 be"),
    ("stderr", b"oops\n"),
    ("gap", b'{"stream":"stdout","bytes":12288,"reason":"the engine\'s log was destroyed"}'),
    ("stdout", b"gun\n"),
)
"""Each at 1.5 s of 1970."""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Return a state directory with one job that ended."""
    write_box(tmp_path, ended("typo-1"))
    write_log(tmp_path, "typo-1", *WRITTEN)
    return tmp_path


def logs(state: Path, *words: object) -> Typed:
    return typed("logs", "typo-1", "--state-dir", state, *words)


def test_a_gap_is_told_in_words_where_it_is(state: Path) -> None:
    missing = "runner: ~12.0 KiB of stdout are missing here: the engine's log was destroyed\n"
    assert Typed(0, "1\n2\n3 begun\n", f"runner: pulled\noops\n{missing}") == logs(state)
    assert Typed(0, "1\n2\n3 begun\n", missing) == logs(state, "--stream", "stdout")


@pytest.mark.parametrize(
    ("words", "out"),
    [
        (["--tail", "3"], "3 begun\n"),
        (["--tail", "4", "--stream", "stdout"], "1\n2\n3 begun\n"),
        (["--tail", "2", "--stream", "stdout"], "3 begun\n"),
        (["--tail", "0"], ""),
        (["--stream", "stderr"], ""),
        (["--since", "1h"], ""),
        (["--since", "1970-01-01T00:00:01Z"], "1\n2\n3 begun\n"),
    ],
)
def test_a_part_of_it_can_be_chosen(state: Path, words: list[str], out: str) -> None:
    assert out == logs(state, *words).out


def test_each_line_has_one_time(state: Path) -> None:
    """A line that was cut over records, too; on stderr as on stdout."""
    local = time.strftime("1970-01-01T%H:%M:%S.500%z", time.localtime(1))
    stamp = f"{local[:-2]}:{local[-2:]}"
    said = logs(state, "--timestamps")
    assert [f"{stamp} {text}" for text in ("1", "2", "3 begun")] == said.out.splitlines()
    first, second, third = said.err.splitlines()
    assert (f"runner: {stamp} pulled", f"{stamp} oops") == (first, second)
    assert third.startswith(f"runner: {stamp} ~12.0 KiB")


def test_as_json_the_end_of_the_job_is_last(state: Path) -> None:
    """On the box as from anywhere; a gap is the record that it is."""
    said = [json.loads(line) for line in logs(state, "--json").out.splitlines()]
    assert ["runner", "stdout", "stderr", "gap", "stdout"] == [one["stream"] for one in said[:-1]]
    assert 12288 == json.loads(said[3]["text"])["bytes"]
    assert ("ended", "failed") == (said[-1]["event"]["state"], said[-1]["event"]["end_reason"])


def of_a_shared_queue(state: Path) -> None:
    """A job that this box ended, whose queue has its results elsewhere."""
    claimed, stored, settled = ended("far-1")
    assert isinstance(stored, StoreRecord)
    log = LogAccount(2, 12, "9f2c", url=f"redis://host/0?queue=train#log/{stored.receipt.key}~000002.log.gz")
    receipt = msgspec.structs.replace(stored.receipt, log=log)
    write_box(state, [claimed, msgspec.structs.replace(stored, receipt=receipt), settled])


def test_on_the_box_the_archive_is_its_own_whatever_the_queue(tmp_path: Path) -> None:
    of_a_shared_queue(tmp_path)

    async def write() -> None:
        spool, key = FileSpool(str(tmp_path / "spool"), lambda: 1_500_000_000), make_key("q", "far-1", "s1")
        for attempt in (1, 2):
            await spool.append(key, attempt, "stdout", b"attempt %d\n" % attempt)
            await spool.seal(key, attempt)
        await spool.close()

    asyncio.run(write())
    assert Typed(0, "attempt 2\n", "") == typed("logs", "far-1", "--archive", "--state-dir", tmp_path)


@pytest.mark.parametrize("words", [(), ("--archive",)])
def test_where_the_box_has_it_no_more_it_is_said_where_it_stands(tmp_path: Path, words: tuple[str, ...]) -> None:
    of_a_shared_queue(tmp_path)
    said = typed("logs", "far-1", *words, "--state-dir", tmp_path)
    assert "" == said.out
    assert "it stands in another result backend: name the queue of its job, as with --queue" in said.err


def started_bytes(*words: object) -> bytes:
    """Run a command in a process of its own, into a pipe."""
    command = [sys.executable, "-m", "runner", *map(str, words)]
    return subprocess.run(command, stdout=subprocess.PIPE, env=clean_environ(), timeout=LIMIT_S, check=True).stdout


@pytest.mark.integration
def test_on_a_terminal_it_can_do_no_harm_and_off_it_nothing_is_changed(tmp_path: Path) -> None:
    """Titles, clearing and bells are seen instead; colours are colours, and end with the log."""
    hostile = b"\x1b]0;owned\x07\x1b[2J\x1b[31mred 50 %\rred 100 %\n\x9b"
    write_box(tmp_path, ended("typo-1"))
    write_log(tmp_path, "typo-1", ("stdout", hostile[:3]), ("stdout", hostile[3:9]), ("stderr", b"\b"))
    write_log(tmp_path, "typo-1", ("stdout", hostile[9:]))
    words, dumb = ("logs", "typo-1", "--state-dir", tmp_path), {"TERM": "dumb"}
    seen = on_terminal(*words, environ=dumb).text
    shown = "\\x1b]0;owned\\x07\\x1b[2J\x1b[31mred 50 %\rred 100 %\r\n\\x9b\x1b[0m"
    assert (shown, True) == (seen.replace(r"\x08", ""), r"\x08" in seen)
    raw = on_terminal(*words, "--raw", "--stream", "stdout", environ=dumb, encoding="latin-1").text
    assert hostile.replace(b"\n", b"\r\n").decode("latin-1") == raw
    assert hostile.decode("latin-1") == started_bytes(*words).decode("latin-1")


@pytest.mark.parametrize(
    ("gap", "text"),
    [
        (Gap(), "some of the output is missing here"),
        (Gap("stderr", lines=1), "1 line of stderr is missing here"),
        (Gap("", None, 20, "too much"), "20 lines of the output are missing here: too much"),
        (Gap("stdout", 3 << 20, 100), "~3.0 MiB (100 lines) of stdout are missing here"),
    ],
)
def test_how_much_is_missing_is_said_as_far_as_it_is_known(gap: Gap, text: str) -> None:
    assert text == gap_text(gap)


@pytest.mark.parametrize(
    ("gaps", "text"),
    [(0, "3 lines, 9 B"), (1, "some of it is missing in one place"), (4, "some of it is missing in 4 places")],
)
def test_show_says_in_words_that_a_log_is_not_whole(gaps: int, text: str) -> None:
    assert text in str(dict(facts(Receipt("a", log=LogAccount(3, 9, "sha256:0", gaps))))["log"])
