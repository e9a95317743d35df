"""The benchmark of jobs that are alone: it runs, and a row that shows nothing says so."""

from __future__ import annotations

import json
import os

import pytest

from bench.alone import Loop, Round, figures_of
from tests.bench.test_mailbox import python


def rounds(*, bare: float, alone: float, beside: float, cpu: float = 0.5, handover_ms: float = 10.0) -> list[Round]:
    """Return three of which the middle one takes so many seconds."""
    return [
        Round(Loop(bare + more, cpu + more), Loop(alone + more, cpu), Loop(beside + more, cpu), handover_ms)
        for more in (-0.002, 0.0, 0.002)
    ]


def test_medians_their_spread_and_ratios_are_told() -> None:
    row = figures_of(rounds(bare=0.5, alone=0.505, beside=0.7), runner_share=0.001)
    assert (row["bare_p50_ms"], row["bare_iqr_ms"], row["alone_over_bare"], row["beside_over_bare"]) == (
        500,
        2,
        1.01,
        1.4,
    )
    assert (row["void"], row["missed"], row["reached"]) == ("", [], True)


def test_a_row_in_which_neighbours_cannot_be_seen_is_void() -> None:
    row = figures_of(rounds(bare=0.5, alone=0.5, beside=0.52), runner_share=0.001)
    assert row["void"] == "noisy neighbours cannot be seen: 520 ms beside them, visible above 525 ms"
    assert row["reached"] is False


def test_a_row_of_a_machine_that_others_use_is_void() -> None:
    row = figures_of(rounds(bare=0.6, alone=0.5, beside=0.9), runner_share=0.001)
    assert row["void"] == "this machine is not idle: bare, the loop was without a core 16.7% of its time"


def test_bars_that_are_missed_are_named() -> None:
    row = figures_of(rounds(bare=0.5, alone=0.6, beside=0.9, handover_ms=150), runner_share=0.01)
    assert row["missed"] == [
        "alone_over_bare 1.2, bar 1.02",
        "handover_p50_ms 150, bar 100",
        "runner_share 0.01, bar 0.002",
    ]
    assert row["reached"] is False


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core is shared with the runner")
def test_each_has_its_turn() -> None:
    """How fast is not asserted: this machine may be busy, and then the row is void."""
    done = python("bench/alone.py", "--rounds", "2", "--seconds", "0.1")
    assert (0, 1) == (done.returncode, done.stdout.count("\n")), done.stderr
    line = json.loads(done.stdout)
    assert (line["rounds"], line["runtime"]) == (2, "process")
    assert min(line[f"{who}_p50_ms"] for who in ("bare", "alone", "beside", "handover")) > 0
    assert line["void"] or isinstance(line["missed"], list)
