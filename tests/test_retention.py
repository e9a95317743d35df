"""Each ``keep_…`` key deletes what it names, of jobs that ended, and nothing else, when a runner is started anew."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adapters.journal import JournalReader
from tests.at_work import AtWork, at_work, dead_letters, drop, until

pytestmark = pytest.mark.integration

WAITS = "echo begun; while [ ! -e go ]; do sleep 0.05; done; echo over"
BROKEN = b"command = [\n"
KEYS = ("workspaces", "spools", "journal", "dead", "results")


class Box:
    """A state directory with a job that succeeded, one that failed, one that was rejected and one that runs."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.state = directory, directory / "s"
        self.queue = self.state / "queue"

    @contextmanager
    def running(self, *options: object) -> Iterator[AtWork]:
        """One life of its runner; jobs run on when it ends."""
        with at_work(self.state, "--on-stop", "leave", *options) as it:
            until((self.queue / "ready").is_dir, "the queue is open")
            yield it
            assert it.stop() == 0

    def fill(self, it: AtWork) -> None:
        (self.directory / "data").write_text("data")
        assert it.follow("good", "--input", f"{self.directory}/data", "--", "cat", "data").out == "data"
        assert it.follow("bad", "--", "sh", "-c", "echo bad; exit 3").status == 3
        drop(self.queue, "broken", BROKEN)
        until(lambda: BROKEN in dead_letters(self.queue), "it is rejected")
        assert it.type("submit", "--id", "runs", "--", "sh", "-c", WAITS).status == 0
        until(lambda: list(self.state.glob("workspaces/runs.*")), "it runs")

    def standing(self) -> dict[str, set[str]]:
        """Name what stands, by the key that says how long, without the job that runs."""
        results = self.queue / "results"
        parts = {
            "workspaces": self.state.glob("workspaces/*"),
            "spools": self.state.glob("spool/*"),
            "dead": (*self.queue.glob("dead/*"), *self.queue.glob("notes/*")),
            "results": (path for part in ("jobs", "ids", "logs", "uploads") for path in (results / part).glob("*")),
        }
        named = {key: {path.name for path in paths} for key, paths in parts.items()}
        return {key: {name for name in names if not name.startswith(("runs", "."))} for key, names in named.items()}

    def sizes(self) -> dict[Path, int]:
        """Return the length of every file of jobs that ended, in the spool and in the result backend."""
        places = ("spool/*/*", "queue/results/jobs/*/*")
        found = [path for place in places for path in self.state.glob(place) if not path.parent.name.startswith("runs")]
        return {path: path.stat().st_size for path in found}

    def has_row(self, job: str) -> bool:
        """Tell whether the journal itself knows a job."""

        async def find() -> bool:
            reader = JournalReader(str(self.state / "journal.db"))
            try:
                return await reader.find(job) is not None
            finally:
                await reader.close()

        return asyncio.run(find())


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Box:
    box = Box(tmp_path_factory.mktemp("box"))
    with box.running() as it:
        box.fill(it)
        before = box.standing()
        assert [key for key in before if not before[key]] == []
    return box


def test_nothing_goes_and_nothing_grows_by_the_defaults(box: Box) -> None:
    """Weeks have to pass first; and what was told to its end is not told again at the next start."""
    before, sizes = box.standing(), box.sizes()
    for _ in range(3):
        with box.running() as it:
            assert it.wait_for("adopt")["jobs"] == 1
    after = box.standing()
    assert [key for key in before if before[key] - after[key]] == []
    assert sizes == {path: size for path, size in box.sizes().items() if path in sizes}


@pytest.mark.parametrize("key", [key for key in KEYS if key not in {"journal", "results"}])
def test_a_key_deletes_its_kind_and_no_other(box: Box, key: str) -> None:
    """At the start, and every hour from then on."""
    before = box.standing()
    assert before[key]
    with box.running(f"--keep-{key}", "0"):
        until(lambda: not box.standing()[key], f"{key} are gone")
    after = box.standing()
    assert {other: names for other, names in before.items() if other != key} == {
        other: names for other, names in after.items() if other != key
    }


def test_rows_go_and_the_result_backend_still_knows(box: Box) -> None:
    """What a box forgets, its queue's results still tell; the job that runs keeps its row."""
    before = box.standing()
    with box.running("--keep-journal", "0") as it:
        until(lambda: "bad" in it.type("ps", "--all").out and not box.has_row("bad"), "its row is gone")
        assert box.has_row("runs")
        assert ("failed", 3) == ((receipt := it.receipt("bad")).end_reason, receipt.exit_code)
        assert it.type("logs", "bad").out == "bad\n"
    assert before == box.standing()


def test_results_go_last_and_then_nobody_knows(box: Box) -> None:
    """Receipts, logs, archives and uploads of what ended."""
    with box.running("--keep-results", "0") as it:
        until(lambda: not box.standing()["results"], "results are gone")
        assert it.type("show", "bad").status == 1
    assert {key: set() for key in ("workspaces", "spools", "dead", "results")} == box.standing()


def test_the_job_that_ran_through_it_all_is_whole(box: Box) -> None:
    """Its workspace, its log, its row and its place in the result backend were never touched."""
    everything = [word for key in KEYS for word in (f"--keep-{key}", "0")]
    with box.running(*everything, "--keep-results", "1h", "--keep-journal", "1h") as it:
        assert it.wait_for("adopt")["jobs"] == 1
        (workspace,) = box.state.glob("workspaces/runs.*")
        (workspace / "go").touch()
        assert it.type("logs", "-f", "runs").out == "begun\nover\n"
        receipt = it.receipt("runs")
        assert ("succeeded", 1, 2) == (receipt.end_reason, receipt.attempt, receipt.log.lines)
