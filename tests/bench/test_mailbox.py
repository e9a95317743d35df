"""The benchmark of mailboxes runs, reports one line, and keeps it where it says; how fast is not asserted here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RATES = {f"{kind}_{who}" for kind in ("tell", "ask") for who in ("ours", "pykka", "xoscar")} | {
    "tell_queue",
    "ask_bare",
}
RATIOS = {"tell_over_queue", "tell_over_best_peer", "ask_over_bare", "ask_over_best_peer"}
REPORT = """
from bench.report import arguments, report
options = arguments("what is measured", rounds=3).parse_args()
raise SystemExit(report("sample", {"rounds": options.rounds, "reached": False}, options))
"""


def python(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(cwd)}
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=100, check=False
    )


@pytest.mark.slow
def test_everybody_is_measured_and_compared_on_one_line() -> None:
    done = python("bench/mailbox.py", "--rounds", "1")
    assert (0, 1) == (done.returncode, done.stdout.count("\n")), done.stderr
    line = json.loads(done.stdout)
    assert {"bench", "unit", "rounds", "capacity", "bars", "reached"} | RATES | RATIOS == set(line)
    assert all(line[name] > 0 for name in RATES | RATIOS)
    assert all(line["bars"][name] <= line[name] for name in line["bars"]) or line["reached"] is False


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Copy the reporting part to where it may write."""
    (tmp_path / "bench").mkdir()
    shutil.copy(ROOT / "bench" / "report.py", tmp_path / "bench")
    return tmp_path


def test_a_line_is_kept_with_machine_date_and_commit_only_if_asked_for(place: Path) -> None:
    assert 0 == python("-c", REPORT, cwd=place).returncode
    assert not (place / "bench" / "results").exists()
    python("-c", REPORT, "--json-out", "--rounds", "7", cwd=place)
    (kept,) = (place / "bench" / "results").glob("sample-*.json")
    figures = json.loads(kept.read_text())
    assert {"bench", "machine", "date", "commit", "rounds", "reached"} == set(figures)
    assert (7, f"sample-{figures['date'][:10]}.json") == (figures["rounds"], kept.name)
    assert "cores" in figures["machine"]


def test_a_bar_that_is_not_reached_fails_only_a_check(place: Path) -> None:
    assert [0, 1] == [python("-c", REPORT, *words, cwd=place).returncode for words in ((), ("--check",))]
