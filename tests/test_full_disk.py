"""A disk that is full, or has no inodes left, under a runner that runs: it says so, loses nothing, and goes on."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.at_work import AtWork, at_work, end_orphans, left_in, until
from tests.cli.typed import started
from tests.tiny_disk import tiny_disk

pytestmark = pytest.mark.integration

CREDENTIAL = (
    'kind = "folder"\nurl = "folder://{queue}"\nruntime = "process"\nsole_reader = true\nlease = "5s"\npaths = ["/"]\n'
)
SMALL = ("--job-disk", "200KiB")


class Elsewhere:
    """A queue, and a runner for it whose state may stand on another disk."""

    def __init__(self, directory: Path) -> None:
        self.queue = directory / "q"
        self.url = f"folder://{self.queue}"
        self.certs = directory / "certs"
        self.certs.mkdir()
        (self.certs / "q.toml").write_text(CREDENTIAL.format(queue=self.queue))

    def options(self) -> tuple[object, ...]:
        return ("--certs-dir", self.certs, "--no-own-queue", *SMALL)

    def submit(self, box: AtWork, job_id: str, *words: object) -> None:
        said = box.type("submit", "--queue", self.url, "--id", job_id, *words)
        assert (0, f"{job_id}\n") == (said.status, said.out), said.err

    def said(self, box: AtWork, job_id: str) -> str:
        """Return what a job wrote by now."""
        return box.type("logs", "--queue", self.url, job_id).out

    def ended(self, box: AtWork, job_id: str) -> tuple[str | None, int, str]:
        """Follow a job to its end; return the reason, the attempt, and what it wrote."""
        said = box.type("logs", "-f", "--queue", self.url, job_id)
        assert said.status == 0, said.err
        receipt = box.receipt(job_id, "--queue", self.url)
        assert receipt.state == "ended"
        until(lambda: left_in(self.queue) == [], "it is settled")
        return receipt.end_reason, receipt.attempt, said.out


@pytest.fixture
def elsewhere(tmp_path: Path) -> Elsewhere:
    return Elsewhere(tmp_path)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with tiny_disk(tmp_path / "tiny") as it:
        yield it
        end_orphans(it)


@contextmanager
def no_space(disk: Path) -> Iterator[None]:
    """Fill a disk to its last byte, then give the room back."""
    with (disk / "ballast").open("wb", buffering=0) as ballast, refused():
        for _ in itertools.count():
            ballast.write(b"x" * 4096)
    yield
    (disk / "ballast").unlink()


@contextmanager
def no_inodes(disk: Path) -> Iterator[None]:
    """Use up every file that a disk can have, then give them back."""
    with refused():
        for number in itertools.count():
            (disk / f"ballast-{number}").touch()
    yield
    for file in disk.glob("ballast-*"):
        file.unlink()


@contextmanager
def refused() -> Iterator[None]:
    with pytest.raises(OSError, match="No space left") as told:
        yield
    assert told.value.errno == errno.ENOSPC


@pytest.mark.parametrize("full", [no_space, no_inodes])
def test_what_comes_to_a_full_box_waits_and_then_runs(
    elsewhere: Elsewhere, disk: Path, full: Callable[[Path], AbstractContextManager[None]]
) -> None:
    """It says what it waits for; once there is room the job runs, once."""
    with at_work(disk / "state", *elsewhere.options()) as box:
        elsewhere.submit(box, "before", "--", "echo", "before")
        assert ("succeeded", 1, "before\n") == elsewhere.ended(box, "before")
        with full(disk):
            elsewhere.submit(box, "during", "--", "echo", "during")
            assert "free some" in str(box.wait_for("retry")["reason"])
            assert box.type("sources").status == 0
            assert "during" in box.type("why", "during", "--queue", elsewhere.url).out
        assert ("succeeded", 1, "during\n") == elsewhere.ended(box, "during")
        assert box.stop() == 0
        assert [line for line in box.said if "traceback" in line or "text" in line] == []


def test_a_job_whose_log_fills_the_disk_ends_as_that_and_is_tried_again(elsewhere: Elsewhere, disk: Path) -> None:
    """No fault of its own: the second attempt, which writes less, is the first that counts."""
    flood = "while :; do head -c 4096 /dev/urandom | base64; done"  # which no packing makes small
    script = f'test "$RUNNER_ATTEMPT" = 2 || {flood}; echo done'
    with at_work(disk / "state", *elsewhere.options()) as box:
        elsewhere.submit(box, "flood", "--disk", "1500KiB", "--", "sh", "-c", script)
        box.wait_for("waiting", job_id="flood", reason="disk_full")
        reason, attempt, out = elsewhere.ended(box, "flood")
        assert ("succeeded", 2) == (reason, attempt)
        assert out.endswith("done\n")
        receipt = box.receipt("flood", "--queue", elsewhere.url)
        assert ["disk_full", "succeeded"] == [past.reason for past in receipt.attempts]
        assert (1, 5) == (receipt.log.lines, receipt.log.bytes)
        assert box.stop() == 0


def test_a_runner_is_stopped_and_started_on_a_full_disk(elsewhere: Elsewhere, disk: Path) -> None:
    """The job runs on; the next start takes it back without a byte of room, and with room again has all of its log."""
    script = "echo begun; while [ ! -e go ]; do sleep 0.05; done; echo over; exit 3"
    options = (*elsewhere.options(), "--on-stop", "leave")
    with at_work(disk / "state", *options) as box:
        elsewhere.submit(box, "long", "--", "sh", "-c", script)
        until(lambda: elsewhere.said(box, "long") == "begun\n", "it runs, and what it wrote so far was written")
        with no_space(disk):
            elsewhere.submit(box, "late", "--", "echo", "late")
            box.wait_for("retry")
            assert box.stop(limit_s=30) == 0
            with at_work(disk / "state", *options) as again:
                assert again.wait_for("adopt")["jobs"] == 1
                assert again.stop(limit_s=30) == 0
    with at_work(disk / "state", *options) as box:
        (workspace,) = (disk / "state" / "workspaces").glob("long.*")
        (workspace / "go").touch()
        assert ("failed", 1, "begun\nover\n") == elsewhere.ended(box, "long")
        assert ("succeeded", 1, "late\n") == elsewhere.ended(box, "late")
        assert box.stop() == 0


def test_a_runner_does_not_start_on_a_full_disk(disk: Path, tmp_path: Path) -> None:
    """One line, and the place; with room again it does."""
    with no_space(disk):
        said = started("run", "--state-dir", disk / "state", *SMALL)
        assert (said.status in {69, 78}, 1) == (True, len(said.err.splitlines())), said.err
        assert str(disk / "state") in said.err
    with at_work(disk / "state", *SMALL) as box:
        assert box.follow("first", "--", "true").status == 0
        assert box.stop() == 0


def test_cached_inputs_give_way_to_new_ones(elsewhere: Elsewhere, disk: Path, tmp_path: Path) -> None:
    """A cache is there to help; jobs come first."""
    with at_work(disk / "state", *elsewhere.options()) as box:
        for number in range(3):
            data = tmp_path / f"data-{number}"
            data.write_bytes(bytes([number]) * 500_000)
            words = ("--disk", "1MiB", "--input", f"data=folder://{data}", "--", "wc", "-c", "data")
            elsewhere.submit(box, f"reader-{number}", *words)
            reason, _, out = elsewhere.ended(box, f"reader-{number}")
            assert ("succeeded", "500000 data\n") == (reason, out)
        assert box.stop() == 0


def test_an_input_that_never_fits_ends_as_disk_full(elsewhere: Elsewhere, disk: Path, tmp_path: Path) -> None:
    """Tried again where there may be more room; nothing of it stays."""
    (tmp_path / "huge").write_bytes(b"x" * (1 << 20))
    with at_work(disk / "state", *elsewhere.options()) as box:
        (disk / "somebody's").write_bytes(b"x" * (1 << 20))
        words = ("--disk", "1500KiB", "--input", f"huge=folder://{tmp_path}/huge", "--", "true")
        elsewhere.submit(box, "huge", *words)
        assert "free some" in str(box.wait_for("retry")["reason"])
        assert box.type("cancel", "huge").status == 0
        assert ("cancelled", 1, "") == elsewhere.ended(box, "huge")
        elsewhere.submit(box, "small", "--", "echo", "small")
        assert ("succeeded", 1, "small\n") == elsewhere.ended(box, "small")
        assert box.stop() == 0


def test_a_queue_whose_disk_is_full_gets_its_results_later(disk: Path, tmp_path: Path) -> None:
    """The job runs; its receipt and its settlement wait for room."""
    script = "while [ ! -e go ]; do sleep 0.05; done; echo over"
    it = Elsewhere(disk)
    with at_work(tmp_path / "state", *it.options()) as box:
        it.submit(box, "long", "--", "sh", "-c", script)
        until(lambda: list((box.state / "workspaces").glob("long.*")), "it runs")
        with no_space(disk):
            refused = box.type("submit", "--queue", it.url, "--", "true")
            assert (True, "", 1) == (refused.status != 0, refused.out, len(refused.err.splitlines()))
            assert "no space" in refused.err
            next((box.state / "workspaces").glob("long.*")).joinpath("go").touch()
            assert "free some" in str(box.wait_for("retry")["reason"])
            assert len(left_in(it.queue)) == 1
        assert ("succeeded", 1, "over\n") == it.ended(box, "long")
        assert box.stop() == 0


def test_outputs_that_find_no_room_are_stored_by_a_later_attempt(
    elsewhere: Elsewhere, disk: Path, tmp_path: Path
) -> None:
    """Uploads are retried for a while, then the whole job is."""
    with at_work(tmp_path / "state", *elsewhere.options(), "--output-patience", "1s") as box:
        with no_space(disk):
            words = ("--output", f"o=folder://{disk}/out/", "--", "sh", "-c", "echo $RUNNER_ATTEMPT > o")
            elsewhere.submit(box, "stores", *words)
            box.wait_for("waiting", job_id="stores", reason="output_failed")
            assert not list(disk.glob("out/stores/o"))
        assert ("succeeded", 2, "") == elsewhere.ended(box, "stores")
        assert (disk / "out" / "stores" / "o").read_text() == "2\n"
        assert box.stop() == 0
