"""How the demo looks: tables, figures, curves, and the log that it reads along."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from adapters.spool import FileSpool
from runner.cli.demo.account import Account, JobFacts, KillFacts
from runner.cli.demo.closing import closing
from runner.cli.demo.tables import dotted, ends_table, resumed_told, sparkline, spread, state_of, states_table
from runner.cli.demo.watching import Progress, Seen, Tail
from runner.job import make_key
from tests.cli.demo_harness import TWO_CORES, parts, plain

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
