"""The pieces of the demo that need no runner: jobs, what is taken for proof, and what became of them."""

import os
import re
from pathlib import Path

import msgspec
import pytest

from adapters.archives import Limits, unpack
from adapters.interruptible import Stop
from adapters.wire.native import decode
from runner.cli.demo.cast import EPOCHS, EVIL_MEMBER, STEPS_AN_EPOCH
from runner.cli.demo.finding import job_facts, lines_of, problems_of
from runner.cli.demo.proof import LinesFound, count_steps, log_matches, output_problems
from runner.errors import Refused
from runner.job import PastAttempt
from runner.receipt import OutputAccount, Receipt
from tests.cli.demo_harness import TWO_CORES, parts, stored_log, training_log

# The jobs


@pytest.mark.parametrize("cores", [1, 2, 4, 64])
@pytest.mark.parametrize("gpus", [1, 2, 8])
def test_the_jobs_fit_the_box_together(tmp_path: Path, cores: int, gpus: int) -> None:
    """All that must run at once do; only the second GPU job waits for the first."""
    cast = parts(msgspec.structs.replace(TWO_CORES, cores=cores, gpus=gpus), tmp_path)
    cpus = {name: float(str(part.resources["cpus"])) for name, part in cast.items()}
    assert sum(cpus.values()) <= cores
    first, second = (int(str(cast[name].resources["gpus"])) for name in ("gpu-one", "gpu-two"))
    assert first <= gpus
    assert second <= gpus < first + second


def test_every_job_is_one_that_the_runner_takes(tmp_path: Path) -> None:
    """No field is misspelt, and none is one that is not served."""
    for part in parts(TWO_CORES, tmp_path).values():
        found = decode(msgspec.json.encode({**part.document, "inputs": []}))
        assert (part.id, "") == (found.job.id, found.problem)
        assert all(source.file.is_file() for source in part.sources)


def test_the_hostile_archive_is_one(tmp_path: Path) -> None:
    """Its only member would leave the workspace, and the extractor names it."""
    (source,) = parts(TWO_CORES, tmp_path)["evil.tar"].sources
    target = os.open(tmp_path, os.O_RDONLY)
    with source.file.open("rb") as archive, pytest.raises(Refused, match=re.escape(EVIL_MEMBER)):
        unpack(archive.fileno(), target, Limits(), Stop())
    os.close(target)


# Numbered lines


@pytest.mark.parametrize(
    ("log", "found"),
    [
        (training_log(1, 2, 3, 4), LinesFound(0, 0, 0)),
        (b"", LinesFound(4, 0, 0)),
        (training_log(1, 2, 4), LinesFound(1, 0, 0)),
        (training_log(1, 2, 2, 3, 3, 3, 4), LinesFound(0, 3, 0)),
        (training_log(1, 3, 2, 4), LinesFound(0, 0, 1)),
        (training_log(1, 2, 3, 4, 5), LinesFound(0, 0, 1)),
        (b"epoch 1/30  loss 1\n" + training_log(1, 2, 3) + b"step 4", LinesFound(1, 0, 0)),
    ],
)
def test_lines_are_counted(log: bytes, found: LinesFound) -> None:
    """Whatever is missing, doubled or astray shows, and a torn line is no line."""
    assert found == count_steps(log, 4)
    assert found.whole == (found == LinesFound(0, 0, 0))


def test_the_training_is_as_long_as_the_demo_thinks() -> None:
    """1,437 digits in batches of 14."""
    assert STEPS_AN_EPOCH == -(-1437 // 14)
    assert EPOCHS * STEPS_AN_EPOCH == 3090


def test_a_log_is_what_its_receipt_says(tmp_path: Path) -> None:
    """Lines, bytes and digest are counted again from the archive."""
    log = stored_log(tmp_path, training_log(1, 2))
    assert log_matches(Receipt("digits", log=log))
    for wrong in ({"lines": 3}, {"bytes": 1}, {"sha256": "sha256:0"}, {"gaps": 1}, {"url": "folder:///nowhere"}):
        assert not log_matches(Receipt("digits", log=msgspec.structs.replace(log, **wrong)))
    (tmp_path / "log.gz").write_bytes(b"torn")
    assert not log_matches(Receipt("digits", log=log))


def test_outputs_are_looked_for(tmp_path: Path) -> None:
    """One that is not there, not whole, or was never stored is named; nothing in a URL is decoded."""
    (tmp_path / "100%41").write_bytes(b"four")
    whole = OutputAccount("model", f"folder://{tmp_path}/100%41", bytes=4)
    assert output_problems((whole,)) == []
    cut = msgspec.structs.replace(whole, bytes=5)
    missing = msgspec.structs.replace(whole, url=f"folder://{tmp_path}/none")
    never = OutputAccount("model", problem="was never written")
    assert len(output_problems((cut, missing, never))) == 3


# What became of the jobs


def test_what_was_not_expected_is_said(tmp_path: Path) -> None:
    """Another end, another exit code, a second try, a missing job, a log that is not whole."""
    cast = parts(TWO_CORES, tmp_path)
    ended: dict[str, object] = {
        "end_reason": "failed",
        "state": "ended",
        "submitted_at": 1.0,
        "started_at": 2.0,
        "ended_at": 4.0,
    }
    ended["log"] = stored_log(tmp_path, b"")
    typo = job_facts(cast["typo"], Receipt("typo", exit_code=3, **ended))  # type: ignore[arg-type]  # a table of fields
    assert (True, 1.0, 2.0, 1) == (typo.ok, typo.waited_s, typo.ran_s, typo.tries)
    other = job_facts(cast["typo"], Receipt("typo", exit_code=2, message="why", **ended))  # type: ignore[arg-type]
    gone = job_facts(cast["forever"], None)
    said = problems_of((), (typo, other, gone), {}, LinesFound(2, 1, 0))
    assert said == [
        "typo ended as failed, exit 2 (why), expected was failed, exit 3",
        "forever ended as not at all, expected was cancelled",
        "of the training's log 2 lines are lost, 1 stand twice, 0 astray",
    ]
    stopped = PastAttempt("box", "preempted", 1.0)
    twice = Receipt("typo", attempts=(stopped, PastAttempt("box", "failed", 1.0)))
    receipts, whole = {"typo": twice}, LinesFound(0, 0, 0)
    assert problems_of((cast["typo"],), (typo,), receipts, whole) == ["typo was tried 2 times, once was expected"]
    assert problems_of((cast["typo"],), (typo,), receipts, whole, resumed=True) == []
    assert problems_of((), (typo,), {}, None) == ["the training left no log or no figures to compare"]


def test_a_job_that_never_ran_has_no_running_time(tmp_path: Path) -> None:
    """It waited until it was refused, and was not tried."""
    log = stored_log(tmp_path, b"")
    receipt = Receipt("evil.tar", state="ended", end_reason="input_refused", submitted_at=1.0, ended_at=1.5, log=log)
    facts = job_facts(parts(TWO_CORES, tmp_path)["evil.tar"], receipt)
    assert (True, 0.5, None, 0) == (facts.ok, facts.waited_s, facts.ran_s, facts.tries)


def test_lines_need_a_log_and_figures(tmp_path: Path) -> None:
    """Without metrics there is nothing to compare with, which is told and not taken for whole."""
    receipt = Receipt("digits", log=stored_log(tmp_path, training_log(1, 2, 3)))
    assert lines_of(receipt, tmp_path) is None
    metrics = {"finished": True, "steps": 4, "epochs": [{"loss": 0.5}], "unseen": {"digits": 2, "right": 1}}
    (tmp_path / "metrics.json").write_bytes(msgspec.json.encode(metrics))
    assert lines_of(receipt, tmp_path) == LinesFound(1, 0, 0)
    assert lines_of(None, tmp_path) is None
