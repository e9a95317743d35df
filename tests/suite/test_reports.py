"""Counts shown live come from a file that is still being written."""

import json
from contextlib import closing
from pathlib import Path

from tests.suite.outcome import GPU_GAP, Gap, Outcome
from tests.suite.reports import Reports


def line(test: str, outcome: str, reason: str = "", *, gpu: bool = False) -> str:
    return json.dumps({"test": test, "outcome": outcome, "gpu": gpu, "reason": reason}) + "\n"


def test_lines_are_counted_once_and_unfinished_ones_later(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    outcome = Outcome(name="quick")
    with closing(Reports(path, outcome)) as reports, path.open("a") as file:
        second = line("b", "failed")
        file.write(line("a", "passed") + second[:9])
        file.flush()
        reports.read()
        assert (outcome.passed, outcome.failed) == (1, 0)
        file.write(second[9:])
        file.flush()
        reports.read()
        assert (outcome.passed, outcome.failures) == (1, ["b"])


def test_skips_are_gathered_by_reason_and_kind(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    outcome = Outcome(name="gpu")
    with closing(Reports(path, outcome)) as reports, path.open("a") as file:
        file.write(line("a", "skipped", "no GPU", gpu=True) * 2 + line("b", "skipped", "no engine"))
        file.flush()
        reports.read()
    assert outcome.gaps == [Gap(reason="no GPU", kind=GPU_GAP, count=2), Gap(reason="no engine", count=1)]
