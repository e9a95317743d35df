"""A runner that drains, from the outside: what jobs are told, what is stored of them, and how soon it is over."""

import json
import signal
import time
from pathlib import Path

import pytest

from tests.at_work import until
from tests.cli.runners import RunningRunner, running

pytestmark = pytest.mark.integration

TELLS = """
trap 'cat "$RUNNER_DEADLINE_FILE" > out; date +%s.%N >> out; exit 3' TERM
while :; do cat "$RUNNER_DEADLINE_FILE" > sees; sleep 0.05; done
"""


def begin(box: RunningRunner, outputs: str) -> None:
    job = f'id = "long"\ncommand = ["sh", "-c", """{TELLS}"""]\ntimeout = "1h"\noutputs = [{outputs}]\n'
    assert box.type("submit", "-", stdin=job).status == 0
    until(lambda: list(box.state.glob("workspaces/*/sees")), "it runs")


def deadline(box: RunningRunner) -> float:
    (path,) = box.state.glob("workspaces/*/sees")
    until(path.read_text, "the job has read its deadline")
    return float(path.read_text() or 0)


def test_a_drain_tells_when_it_stops_what_runs_and_stores_what_that_left(tmp_path: Path) -> None:
    """As in a container that is stopped: its hook drains, and the signal that follows takes nothing away."""
    store = tmp_path / "store"
    with running(tmp_path / "box", "--preempt-grace", "40s") as box:
        begin(box, f'{{ path = "out", url = "folder://{store}/" }}')
        begun = time.time()
        assert box.type("drain", "--grace", "3s").status == 0
        box.process.send_signal(signal.SIGTERM)
        box.process.communicate(timeout=40)
        assert box.process.returncode == 0
        told_at, stopped_at = map(float, (store / "long" / "out").read_text().split())
        assert begun + 3 <= told_at <= stopped_at + 0.1 < told_at + 5
        receipt = json.loads(box.type("show", "long", "--json").out)
        assert ("waiting", "preempted", 3, "retry") == tuple(
            receipt[name] for name in ("state", "end_reason", "exit_code", "verdict")
        )
        assert "the runner drains: this job is stopped at" in box.type("logs", "long").err


def test_why_says_that_a_runner_that_drains_takes_up_nothing(tmp_path: Path) -> None:
    """A place in a line that does not move is half the truth."""
    with running(tmp_path) as box:
        begin(box, "")
        assert box.type("drain", "--grace", "10m").status == 0
        assert box.type("submit", "--id", "waits", "--", "true").status == 0
        told = json.loads(box.type("why", "waits", "--json").out)["sentence"]
        assert "1st of 1 waiting in queue; the runner on this box drains, and takes up no job" == told
        assert box.type("cancel", "long").status == 0
        box.process.communicate(timeout=40)


def test_a_second_signal_ends_the_waiting(tmp_path: Path) -> None:
    """The first has ten minutes for what runs; whoever cannot wait says so again, and the message is given back."""
    with running(tmp_path) as box:
        begin(box, "")
        box.process.send_signal(signal.SIGTERM)
        until(lambda: abs(deadline(box) - time.time() - 600) < 60, "the job knows of the drain")
        box.process.send_signal(signal.SIGTERM)
        box.process.communicate(timeout=40)
        assert box.process.returncode == 0
        receipt = json.loads(box.type("show", "long", "--json").out)
        assert ("waiting", "preempted", "retry") == tuple(receipt[it] for it in ("state", "end_reason", "verdict"))


def test_a_drain_that_becomes_a_leave_gives_jobs_their_time_back(tmp_path: Path) -> None:
    """What runs on reads its own limit again when the runner is gone."""
    with running(tmp_path) as box:
        begin(box, "")
        own_at = deadline(box)
        assert own_at > time.time() + 3000
        assert box.type("drain", "--grace", "10m").status == 0
        until(lambda: abs(deadline(box) - time.time() - 600) < 60, "the job knows of the drain")
        assert box.type("drain", "--leave").status == 0
        box.process.communicate(timeout=30)
        assert box.process.returncode == 0
        until(lambda: deadline(box) == own_at, "the job has its time back")
    with running(tmp_path) as box:
        assert box.type("cancel", "long").status == 0
        until(lambda: '"cancelled"' in box.type("ps", "--all", "--json").out, "it is cancelled")
