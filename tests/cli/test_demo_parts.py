"""The pieces of the demo that need no runner: tables, figures, jobs, and what is taken for proof."""

import asyncio
import gzip
import hashlib
import os
import re
from pathlib import Path

import msgspec
import pytest

from adapters.archives import Limits, unpack
from adapters.interruptible import Stop
from adapters.spool import FileSpool
from adapters.wire.native import decode
from runner.cli.demo.account import Account, BoxFacts, JobFacts, KillFacts
from runner.cli.demo.cast import EPOCHS, EVIL_MEMBER, STEPS_AN_EPOCH, Part, six_jobs
from runner.cli.demo.closing import closing
from runner.cli.demo.finding import job_facts, lines_of, problems_of
from runner.cli.demo.proof import LinesFound, count_steps, log_matches, output_problems
from runner.cli.demo.tables import (
    Line,
    dotted,
    ends_table,
    resumed_told,
    sparkline,
    spread,
    state_of,
    states_table,
)
from runner.cli.demo.watching import Progress, Seen, Tail
from runner.errors import Refused
from runner.job import PastAttempt, make_key
from runner.receipt import LogAccount, OutputAccount, Receipt

TWO_CORES = BoxFacts(cores=2, memory=1 << 34, gpus=2, why_simulated="no NVIDIA driver")


def plain(lines: list[Line]) -> list[str]:
    return ["".join(span if isinstance(span, str) else span[0] for span in line).rstrip() for line in lines]


def parts(box: BoxFacts, directory: Path) -> dict[str, Part]:
    return {part.id: part for part in six_jobs(box, directory / "out", directory)}


def training_log(*steps: int) -> bytes:
    return b"".join(b"step %d  loss 0.5\n" % step for step in steps)


def stored_log(directory: Path, content: bytes) -> LogAccount:
    archive = directory / "log.gz"
    archive.write_bytes(gzip.compress(content))
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return LogAccount(content.count(b"\n"), len(content), digest, url=f"folder://{archive}")


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


# How it looks


def test_the_table_of_states(tmp_path: Path) -> None:
    """A line a job; on a narrow terminal what is said of it goes on below."""
    cast = parts(TWO_CORES, tmp_path)
    two = (cast["digits"], cast["gpu-two"])
    assert plain(states_table(two, {}, "GPU", None)) == [
        "    JOB      WANTS   STATE",
        "    digits   1 cpu   queued",
        "    gpu-two  2 gpus  queued",
    ]
    wide, narrow = (plain(states_table(two, _training_seen(), "GPU", width)) for width in (None, 50))
    assert wide[1] == "    digits   1 cpu   running"
    assert wide == narrow


def _training_seen() -> dict[str, Seen]:
    return {"digits": _Running("digits", progress=Progress())}


class _Running(Seen, frozen=True):
    """A job that runs, without a journal behind it."""

    @property
    def state(self) -> str:
        return "running"


def test_the_training_tells_its_epoch(tmp_path: Path) -> None:
    """In its own words, once there is one."""
    digits = parts(TWO_CORES, tmp_path)["digits"]
    seen = _Running("digits", progress=Progress(14, 30, "loss 0.08", "test accuracy 0.94"))
    assert ("training", "epoch 14/30   loss 0.08  test accuracy 0.94") == state_of(digits, seen, "GPU")
    lines = plain(states_table((digits,), {"digits": seen}, "GPU", 50))
    assert lines[1:] == [
        "    digits  1 cpu  training  epoch 14/30   loss",
        "                             0.08  test accuracy",
        "                             0.94",
    ]


def test_the_table_of_ends() -> None:
    """Side by side with what was expected; a narrow terminal loses columns, never the first ones."""
    good = JobFacts("digits", "1 cpu", "succeeded", "succeeded", "", 0.12, 9.81, 1, 3122, "sha256:9f2c11")
    bad = JobFacts("forever", "1 cpu", "cancelled", "failed, exit 1", log_matches=False)
    assert plain(ends_table((good, bad), None)) == [
        "    JOB      EXPECTED   ENDED AS           WAITED    RAN  TRIES          LOG",
        "    digits   succeeded  succeeded       ✓   0.1 s  9.8 s      1  3,122 lines  sha256 9f2c…",
        "    forever  cancelled  failed, exit 1  ✗       -      -      -      0 lines  its archive does not match",
    ]
    assert [line[-1] for line in plain(ends_table((good, bad), 48))[1:]] == ["✓", "✗"]


@pytest.mark.parametrize(
    ("values", "drawn"),
    [((), ""), ((0.5,), "0.50 ▁ 0.50"), ((1.0, 0.1, 0.01), "1.00 █▅▁ 0.01"), ((1.0, 0.0), "")],
)
def test_the_curve_in_one_line(values: tuple[float, ...], drawn: str) -> None:
    """From the first to the last, on a scale that shows a hundredth."""
    assert drawn == sparkline(values)
    assert len(sparkline([1 / n for n in range(1, 31)], bars=13)) == len("1.00  0.03") + 13


def test_a_figure_stands_at_the_end_of_its_line() -> None:
    """Of the next one where there is no room for both."""
    assert plain(spread("left", "61 ms", None)) == ["left" + " " * 82 + "61 ms"]
    assert plain(spread("left", "61 ms", 20)) == ["left           61 ms"]
    assert plain(spread("left" * 4, "61 ms", 20)) == ["left" * 4, "               61 ms"]


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ((0, 0, 0, 0), ("no act was played to its end", "jobs: none yet")),
        ((1, 2, 4, 0), ("act 1 was played before", "jobs: 2 had ended, 4 taken back")),
        ((3, 5, 0, 1), ("acts 1 to 3 were played before", "jobs: 5 had ended, 1 to begin again")),
    ],
)
def test_a_demo_that_goes_on_says_from_where(facts: tuple[int, int, int, int], told: tuple[str, str]) -> None:
    acts, ended, taken_back, wait = facts
    assert resumed_told(acts, ended=ended, taken_back=taken_back, wait=wait)[1:] == told


def test_parts_of_a_line_are_never_torn() -> None:
    """They go on below their beginning, each part whole."""
    parts = ("2 cores", "22.4 GiB", "no NVIDIA driver, so 2 simulated GPUs")
    assert plain(dotted(" box  ", parts, None)) == [" box  2 cores · 22.4 GiB · no NVIDIA driver, so 2 simulated GPUs"]
    assert plain(dotted(" box  ", parts, 50)) == [
        " box  2 cores · 22.4 GiB",
        "      no NVIDIA driver, so 2 simulated GPUs",
    ]


def test_the_last_line_says_whether_it_was_as_expected() -> None:
    """And where to read on, where it was not."""
    job = JobFacts("digits", "1 cpu", "succeeded", "succeeded")
    kill = KillFacts(1, 2, 3, 4, 0.2, 1000)
    fine = Account(ok=True, seconds=31.4, directory="demo-out", log="demo-out/runner.log", jobs=(job,) * 6, kill=kill)
    assert plain(closing(fine, None))[-1] == (
        "demo ok: 6 of 6 as expected, kill -9 survived, 31 s, outputs in demo-out"
    )
    unkilled = msgspec.structs.replace(fine, kill=None)
    assert plain(closing(unkilled, None))[-1] == "demo ok: 6 of 6 as expected, 31 s, outputs in demo-out"
    failed = msgspec.structs.replace(fine, ok=False, problems=("one thing", "another"))
    assert plain(closing(failed, None))[-1] == "demo failed: one thing (and 1 more); read demo-out/runner.log"
    assert "your first job" in "".join(plain(closing(fine, None)))
    assert "your first job" not in "".join(plain(closing(fine, 40)))


# Reading along


def test_a_log_is_read_on_from_where_it_was(tmp_path: Path) -> None:
    """
    Lines count once they are whole; the newest epoch is the progress, and a complaint outlives what follows. Another
    attempt begins with nothing.
    """

    async def write_and_read() -> list[tuple[int, int, str]]:
        spool, key = FileSpool(str(tmp_path), lambda: 1), make_key("q", "digits", "1")
        tail, found = Tail(key), []
        for attempt, stream, data in (
            (1, "runner", b"staging\n"),
            (1, "stdout", b"1437 digits\nstep 1  loss 2.0\nepoch 1/30  loss 1.50  test acc"),
            (1, "stdout", b"uracy 0.80\n"),
            (1, "stderr", b"train.py: oh\n"),
            (1, "stdout", b"epoch 2/30  loss 1.00  test accuracy 0.90\nstep"),
            (2, "stdout", b"1437 digits\n"),
        ):
            await spool.append(key, attempt, stream, data)
            await tail.read(spool)
            found.append((tail.lines, tail.progress.epoch, tail.last))
        await spool.close()
        return found

    assert asyncio.run(write_and_read()) == [
        (0, 0, ""),
        (2, 0, "step 1  loss 2.0"),
        (3, 1, "epoch 1/30  loss 1.50  test accuracy 0.80"),
        (4, 1, "train.py: oh"),
        (5, 2, "train.py: oh"),
        (1, 0, "1437 digits"),
    ]
