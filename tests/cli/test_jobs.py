"""``ps``, ``show``, ``why`` and ``logs`` on a box whose runner is down."""

import json
from pathlib import Path

import msgspec
import pytest

from runner.cli.receipt_text import facts
from runner.receipt import GrantAccount, JobRow, Receipt, Why
from tests.cli.boxes import BOX, claim, ended, running, waiting, write_box, write_log
from tests.cli.typed import Typed, typed

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Return a state directory with one job of each kind."""
    write_box(tmp_path, ended("typo-1"), running("digits-1"), waiting("gpu-two"))
    return tmp_path


def test_ps_lists_what_is_in_hand_newest_first(state: Path) -> None:
    """Without a runner, from the journal alone."""
    rows = msgspec.json.decode(typed("ps", "--json", "--state-dir", state).out, type=list[JobRow])
    assert [("gpu-two", "waiting"), ("digits-1", "running")] == [(row.id, row.state) for row in rows]
    assert (("GPU-a",), 1_000_023.0, BOX) == (rows[1].gpus, rows[1].started_at, rows[1].box)


def test_ps_all_adds_what_ended(state: Path) -> None:
    """The end reason and the exit code stand in the row."""
    rows = msgspec.json.decode(typed("ps", "--all", "--json", "--state-dir", state).out, type=list[JobRow])
    assert ["gpu-two", "digits-1", "typo-1"] == [row.id for row in rows]
    assert ("ended", "failed", 3, 2) == (rows[2].state, rows[2].end_reason, rows[2].exit_code, rows[2].attempt)


@pytest.mark.parametrize(
    ("name", "words"), [("ps", ("ps", "--all")), ("show", ("show", "typo-1")), ("why", ("why", "gpu-two"))]
)
def test_json_is_as_agreed(state: Path, name: str, words: tuple[str, ...]) -> None:
    """Other programs lean on every name; write ``golden/NAME.json`` again only with a reason for them."""
    said = json.loads(typed(*words, "--json", "--state-dir", state).out.replace(str(state), "STATE"))
    assert json.loads((GOLDEN / f"{name}.json").read_text()) == said


def test_ps_as_a_table_is_aligned_and_plain_off_a_terminal(state: Path) -> None:
    """What `grep` and `awk` read has no colour and no frame."""
    lines = typed("ps", "--all", "--state-dir", state).out.splitlines()
    assert ["JOB", "STATE", "RAN", "EXIT", "TRY", "GPUS", "USER", "SUBMITTED", "QUEUE"] == lines[0].split()
    assert {lines[0].index("STATE")} == {
        row.index(word) for row, word in zip(lines[1:], ("wait", "run", "failed"), strict=True)
    }
    assert "\x1b" not in "".join(lines)


def test_show_tells_people_what_they_ask_first(state: Path) -> None:
    """How it ended, why, and what of its outputs is missing."""
    told = typed("show", "typo-1", "--state-dir", state).out
    for words in (
        "failed, exit 3",
        "train.py: no such option --epoch",
        "model: was never written",
        "not isolated  network",
    ):
        assert words in told


@pytest.mark.parametrize(
    ("grant", "told"),
    [
        (GrantAccount(cores=(0,), cpus=0.5), "0.5 on core 0"),
        (GrantAccount(cores=(0, 1), cpus=2.0), "2 on cores 0, 1"),
        (GrantAccount(cores=(0, 3), cpus=1.5), "1.5 on cores 0, 3"),
        (GrantAccount(cores=(0,)), "on core 0"),
        (GrantAccount(), ""),
    ],
)
def test_show_tells_how_many_cores_were_given_and_which(grant: GrantAccount, told: str) -> None:
    """Core number 0 is not no core; receipts of earlier runners say only which."""
    assert told == dict(facts(Receipt("a", grant=grant)))["cores"]


def test_show_of_a_running_job_is_a_receipt_as_far_as_it_goes(state: Path) -> None:
    """One shape before and after the end."""
    receipt = msgspec.json.decode(typed("show", "digits-1", "--json", "--state-dir", state).out, type=Receipt)
    assert ("running", None, 1 << 30) == (receipt.state, receipt.end_reason, receipt.grant.memory)
    assert ((0, 1), 2.0) == (receipt.grant.cores, receipt.grant.cpus)


def test_a_job_is_found_by_its_key_too(state: Path) -> None:
    """The same id may have been submitted twice."""
    key = msgspec.json.decode(typed("show", "typo-1", "--json", "--state-dir", state).out, type=Receipt).key
    assert typed("show", key, "--state-dir", state).status == 0


@pytest.mark.parametrize(
    ("job", "state_word", "sentence"),
    [
        (
            "gpu-two",
            "waiting",
            "needs 2 GPUs, 1 is free; no runner is running on this box: start one with: runner run --state-dir STATE &",
        ),
        (
            "digits-1",
            "running",
            "it runs; no runner is running on this box: start one with: runner run --state-dir STATE &",
        ),
        ("typo-1", "ended", "failed: train.py: no such option --epoch"),
    ],
)
def test_why_is_one_sentence(state: Path, job: str, state_word: str, sentence: str) -> None:
    """What it waits for, or how it ended."""
    why = msgspec.json.decode(typed("why", job, "--json", "--state-dir", state).out, type=Why)
    assert (job, state_word, sentence.replace("STATE", str(state))) == (why.id, why.state, why.sentence)


def test_logs_give_each_stream_its_own(state: Path) -> None:
    """Bytes unchanged; what the runner added goes to stderr under its name, state changes nowhere."""
    write_log(
        state,
        "typo-1",
        ("stdout", b"1\n"),
        ("stderr", b"oops\n"),
        ("event", b"{}"),
        ("runner", b"gone\n"),
        ("stdout", b"2"),
    )
    assert Typed(0, "1\n2", "oops\nrunner: gone\n") == typed("logs", "typo-1", "--state-dir", state)


def test_logs_as_json_are_one_document_a_line(state: Path) -> None:
    """Streams are read line by line by programs, too."""
    write_log(state, "typo-1", ("stdout", b"a\n"), ("stderr", b"\xff"))
    said = [json.loads(text) for text in typed("logs", "typo-1", "--json", "--state-dir", state).out.splitlines()]
    assert {"attempt": 1, "sequence": 0, "at": 1.5, "stream": "stdout", "text": "a\n"} == said[0]
    assert said[1]["text"] == "\ufffd"


@pytest.mark.parametrize("command", ["logs", "show", "why", "cancel"])
def test_a_job_that_nobody_knows_is_one_line_and_1(state: Path, command: str) -> None:
    """Not a traceback, not silence."""
    said = typed(command, "nosuch", "--state-dir", state)
    assert Typed(1, "", "runner: no job 'nosuch' on this box; list them with: runner ps --all\n") == said


@pytest.mark.parametrize("job", ["../../etc/passwd", "a/b", ".", "-x", "x" * 300, "ä"])
@pytest.mark.parametrize("command", ["logs", "show", "why", "cancel"])
def test_an_id_that_is_a_path_is_just_unknown(state: Path, command: str, job: str) -> None:
    """It is looked up, never opened."""
    said = typed(command, "--state-dir", state, *([job] if not job.startswith("-") else [f"./{job}"]))
    assert (1, 1) == (said.status, len(said.err.splitlines())), said


@pytest.mark.parametrize("words", [("ps",), ("ps", "--all", "--json"), ("logs", "x"), ("why", "x")])
def test_looking_at_a_box_that_never_ran_makes_nothing(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Who looks leaves no trace."""
    typed(*words, "--state-dir", tmp_path / "fresh")
    assert not (tmp_path / "fresh").exists()


def test_text_of_jobs_cannot_repaint_the_terminal(tmp_path: Path) -> None:
    """A name with an escape sequence is shown without its power."""
    write_box(tmp_path, [claim("x-1", user="\x1b[2Jada")])
    assert "\x1b" not in typed("ps", "--state-dir", tmp_path).out
