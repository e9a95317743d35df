"""Two boxes on one folder queue: every job has one result and one settlement, whichever box lives, dies or sleeps."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from adapters.queues.folder import FolderBroker
from runner.receipt import Receipt
from tests.at_work import AtWork, at_work, end_orphans, left_in, until

pytestmark = pytest.mark.integration

LEASE_S = 3
CREDENTIAL = """
kind = "folder"
url = "folder://{queue}"
runtime = "process"
paths = ["{marks}"]
lease = "{lease}s"
"""
STARTS = 'touch "$(mktemp "{marks}/$RUNNER_JOB_ID.XXXXXX")"; '
WAITS = """
case "$PWD" in {first}/*) box=first;; *) box=second;; esac
echo begun; echo $box > made-by
while [ ! -e {marks}/go-$box ]; do sleep 0.05; done; echo over
"""


class Shared:
    """One queue, the credential file for it, and a directory where jobs leave marks."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.queue = directory, directory / "q"
        self.url = f"folder://{self.queue}"
        self.marks, self.certs = directory / "marks", directory / "certs"
        self.marks.mkdir()
        self.marks.chmod(0o777)  # each job has a user of its own
        self.certs.mkdir(mode=0o700)
        text = CREDENTIAL.format(queue=self.queue, marks=self.marks, lease=LEASE_S)
        (self.certs / "q.toml").write_text(text)

    @contextmanager
    def box(self, name: str) -> Iterator[AtWork]:
        options = ("--certs-dir", self.certs, "--no-own-queue", "--patience", "1s")
        with at_work(self.directory / name, *options) as it:
            yield it

    def command(self, script: str) -> list[str]:
        return ["sh", "-c", (STARTS + script).format(marks=self.marks, first=self.directory / "first")]

    def submit(self, jobs: dict[str, list[str]], **fields: object) -> None:
        """Put jobs into the queue at once."""

        async def put() -> None:
            broker = FolderBroker(str(self.queue), box_id="", now=time.time, lease_s=LEASE_S, single=True)
            queue = await broker.open("q")
            for job_id, command in jobs.items():
                body = msgspec.json.encode({"id": job_id, "command": command, **fields})
                await queue.put(body, job_id=job_id)
            await queue.close()
            await broker.close()

        asyncio.run(put())

    def starts(self, job_id: str) -> int:
        return len(list(self.marks.glob(f"{job_id}.*")))

    def receipts(self) -> list[Receipt]:
        stored = (self.queue / "results" / "jobs").glob("*/receipt.*")
        return [msgspec.json.decode(path.read_bytes(), type=Receipt) for path in stored]

    def go(self, box: str) -> None:
        (self.marks / f"go-{box}").touch()


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Shared]:
    it = Shared(tmp_path)
    yield it
    end_orphans(tmp_path)


def test_sixty_jobs_are_run_once_each_by_both(shared: Shared) -> None:
    """Neither waits for the other, and none is lost or done twice."""
    names = [f"job-{number}" for number in range(60)]
    with shared.box("first") as first, shared.box("second") as second:
        shared.submit({name: shared.command("echo done") for name in names})
        until(lambda: len(shared.receipts()) == 60 and left_in(shared.queue) == [], "all are settled")
        assert [first.stop(), second.stop()] == [0, 0]
    receipts = shared.receipts()
    assert sorted(names) == sorted(receipt.id for receipt in receipts)
    assert {("succeeded", "ack", 1, 1)} == {
        (receipt.end_reason, receipt.verdict, receipt.attempt, receipt.log.lines) for receipt in receipts
    }
    assert dict.fromkeys(names, 1) == {name: shared.starts(name) for name in names}
    worked = Counter(receipt.box for receipt in receipts)
    assert {(shared.directory / name / "box-id").read_text().strip() for name in ("first", "second")} == set(worked)
    assert min(worked.values()) >= 5
    assert list((shared.queue / "dead").iterdir()) == list((shared.queue / "notes").iterdir()) == []
    stored = Counter(line["job_id"] for box in (first, second) for line in box.said if line.get("action") == "ended")
    assert Counter(names) == stored


def test_the_job_of_a_box_that_burned_down_is_taken_up_by_the_other(shared: Shared) -> None:
    """Killed, and its disk gone: the claim lapses, and one other box runs the job to its end."""
    with shared.box("first") as first:
        shared.submit({"long": shared.command(WAITS)})
        until(lambda: shared.starts("long") == 1, "it runs on the first")
        with shared.box("second") as second:
            first.end()
            killed_at = time.monotonic()
            shutil.rmtree(first.state, ignore_errors=True)
            until(lambda: shared.starts("long") == 2, "it runs on the second", LEASE_S + 10)
            assert LEASE_S / 3 < time.monotonic() - killed_at < LEASE_S + 5
            shared.go("second")
            said = second.type("logs", "-f", "--queue", shared.url, "long")
            assert said.out.endswith("begun\nover\n")
            until(lambda: left_in(shared.queue) == [], "it is settled")
            assert second.stop() == 0
    (receipt,) = shared.receipts()
    assert ("succeeded", (shared.directory / "second" / "box-id").read_text().strip()) == (
        receipt.end_reason,
        receipt.box,
    )
    assert shared.starts("long") == 2


@pytest.mark.parametrize("wakes", ["while the other runs it", "when the other has ended it"])
def test_a_box_that_slept_past_its_lease_changes_nothing(shared: Shared, wakes: str) -> None:
    """Frozen, then woken: what it made of the job is stored nowhere, and its job is stopped."""
    outputs = [{"path": "made-by", "url": f"folder://{shared.marks}/out/"}]
    with shared.box("first") as first:
        shared.submit({"long": shared.command(WAITS)}, outputs=outputs)
        until(lambda: shared.starts("long") == 1, "it runs on the first")
        with shared.box("second") as second:
            first.process.send_signal(signal.SIGSTOP)
            until(lambda: shared.starts("long") == 2, "it runs on the second", LEASE_S + 10)
            if wakes == "when the other has ended it":
                shared.go("second")
                until(lambda: shared.receipts() and left_in(shared.queue) == [], "the second has ended it")
                shared.go("first")
            first.process.send_signal(signal.SIGCONT)
            first.wait_for("lost", job_id="long")
            assert "the claim was lost" in first.type("logs", "long").err
            shared.go("second")
            second.wait_for("ended", job_id="long")
            until(lambda: left_in(shared.queue) == [], "it is settled")
            told = first.receipt("long")
            assert ("lost", "lease_lost") == (told.state, told.end_reason)
            assert [first.stop(), second.stop()] == [0, 0]
    (receipt,) = shared.receipts()
    assert (shared.directory / "second" / "box-id").read_text().strip() == receipt.box
    assert (shared.marks / "out" / "long" / "made-by").read_text() == "second\n"
    assert shared.starts("long") == 2


def test_a_box_that_slept_alone_goes_on(shared: Shared) -> None:
    """Nobody took its job up: the lapsed claim is renewed, and nothing is lost."""
    with shared.box("first") as first:
        shared.submit({"long": shared.command(WAITS)})
        until(lambda: shared.starts("long") == 1, "it runs")
        first.process.send_signal(signal.SIGSTOP)
        (claim,) = (shared.queue / "claimed").iterdir()
        until(lambda: float(claim.name.split("~")[1]) / 1e6 < time.time(), "the claim lapsed")
        first.process.send_signal(signal.SIGCONT)
        shared.go("first")
        assert first.type("logs", "-f", "long").out == "begun\nover\n"
        until(lambda: left_in(shared.queue) == [], "it is settled")
        assert first.stop() == 0
    (receipt,) = shared.receipts()
    assert ("succeeded", 1) == (receipt.end_reason, shared.starts("long"))


def test_jobs_that_ran_on_while_no_runner_did_are_taken_back_after_their_lease(shared: Shared) -> None:
    """The next life renews before it fetches: else it would take its own jobs up again."""
    names = [f"long-{number}" for number in range(8)]
    with shared.box("first") as first:
        shared.submit({name: shared.command(WAITS) for name in names}, resources={"cpus": 0.1})
        until(lambda: all(shared.starts(name) == 1 for name in names), "they run")
        first.end()
    claims = list((shared.queue / "claimed").iterdir())
    until(lambda: all(float(it.name.split("~")[1]) / 1e6 < time.time() for it in claims), "the claims lapsed")
    with shared.box("first") as again:
        shared.go("first")
        until(lambda: left_in(shared.queue) == [], "they are settled")
        assert again.stop() == 0
    assert Counter(names) == Counter(receipt.id for receipt in shared.receipts())
    assert dict.fromkeys(names, 1) == {name: shared.starts(name) for name in names}


def test_a_box_without_room_leaves_jobs_to_the_other(shared: Shared) -> None:
    """One box holds a job of all GPUs; the next such job is not hoarded behind it."""
    with shared.box("first") as first:
        shared.submit({"holds": shared.command(WAITS)}, resources={"gpus": 2})
        until(lambda: shared.starts("holds") == 1, "the first box is full")
        with shared.box("second") as second:
            shared.submit({"passes": shared.command("echo passed")}, resources={"gpus": 2})
            until(lambda: len(shared.receipts()) == 1, "the other took it")
            shared.go("first")
            until(lambda: left_in(shared.queue) == [], "both are settled")
            assert [first.stop(), second.stop()] == [0, 0]
    assert {"holds", "passes"} == {receipt.id for receipt in shared.receipts()}
    boxes = {receipt.id: receipt.box for receipt in shared.receipts()}
    assert boxes["holds"] != boxes["passes"]


def test_marks_are_made_by_jobs_of_their_own_users(shared: Shared) -> None:
    """The counting of starts leans on this."""
    with shared.box("first") as first:
        shared.submit({"owner": shared.command("true")})
        until(shared.receipts, "it ended")
        assert first.stop() == 0
    (mark,) = shared.marks.glob("owner.*")
    assert (mark.stat().st_uid != os.geteuid()) == (os.geteuid() == 0)
