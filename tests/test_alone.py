"""A job that has a real box for itself: which cores it has, and which the runner has, also after a kill."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adapters.box import spare_cores
from tests.at_work import AtWork, at_work, until

CORES = tuple(sorted(os.sched_getaffinity(0)))
SPARE = frozenset(spare_cores(CORES))
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not SPARE, reason="one core is shared with the runner"),
]


def has(box: AtWork) -> set[frozenset[int]]:
    """Return the cores that its threads may use."""
    threads = Path(f"/proc/{box.process.pid}/task").iterdir()
    return {frozenset(os.sched_getaffinity(int(thread.name))) for thread in threads}


def test_it_has_all_cores_but_one_and_the_runner_has_that_one_also_after_a_kill(tmp_path: Path) -> None:
    show = "import os, time; print(sorted(os.sched_getaffinity(0)), flush=True); time.sleep(100)"
    with at_work(tmp_path) as box:
        assert has(box) == {frozenset(CORES)}
        box.type("submit", "--id", "alone", "--exclusive", "box", "--", "python3", "-c", show)
        box.wait_for("running", job_id="alone")
        assert has(box) == {SPARE}
        until(lambda: box.type("logs", "alone").out, "it printed")
        box.end()
    with at_work(tmp_path) as box:
        until(lambda: has(box) == {SPARE}, "it keeps off again")
        box.type("cancel", "alone")
        box.wait_for("ended", job_id="alone", reason="cancelled")
        assert box.type("logs", "alone").out == f"{sorted(set(CORES) - SPARE)}\n"
        until(lambda: has(box) == {frozenset(CORES)}, "it is back")
