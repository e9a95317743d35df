"""
Two boxes on one queue of a real service: every job has one result and one settlement, whichever box lives, dies or
sleeps.
"""

from __future__ import annotations

import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.at_work import end_orphans, until
from tests.shared_queue import WAITS, SharedQueue, service

pytestmark = [pytest.mark.broker, pytest.mark.integration]

SERVICES = ("redis", "rabbitmq", "sqs")
AFTER_LEASES = 10
NOTICED_S = 40.0
"""RabbitMQ pushes a message to a box that is frozen and has not missed enough heartbeats yet; the next one gets it."""
LONG_S = 45
"""The RabbitMQ here takes back what stands unacknowledged for ten seconds."""


@pytest.fixture(params=SERVICES)
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SharedQueue]:
    name = request.param
    try:
        lines = service(name)
    except KeyError as missing:
        pytest.skip(f"no {name}: {missing.args[0]} is not set; run `make test`")
    it = SharedQueue(tmp_path, lines)
    yield it
    end_orphans(tmp_path)


def test_sixty_jobs_are_run_once_each_by_both(shared: SharedQueue) -> None:
    """Neither waits for the other, and none is lost or done twice."""
    names = [f"job-{number}" for number in range(60)]
    shared.submit({name: shared.command("echo done") for name in names})
    with shared.box("first") as first, shared.box("second") as second:
        until(lambda: len(shared.ended()) == 60, "all have ended", 120)
        assert [first.stop(), second.stop()] == [0, 0]
    receipts = shared.ended()
    assert sorted(names) == sorted(receipt.id for receipt in receipts)
    assert {("succeeded", "ack", 1, 1)} == {
        (receipt.end_reason, receipt.verdict, receipt.attempt, receipt.log.lines) for receipt in receipts
    }
    assert dict.fromkeys(names, 1) == {name: shared.starts(name) for name in names}
    assert {shared.box_id("first"), shared.box_id("second")} == {receipt.box for receipt in receipts}
    assert (0, []) == (shared.depth(), shared.dead())
    told = Counter(line["job_id"] for box in (first, second) for line in box.said if line.get("action") == "ended")
    assert Counter(names) == told


@pytest.mark.parametrize("after", ["a second", "ten leases"])
def test_the_job_of_a_box_that_burned_down_is_taken_up_by_the_other(shared: SharedQueue, after: str) -> None:
    """Killed, and its disk gone: the claim lapses, and one other box runs the job to its end."""
    shared.submit({"long": shared.command(WAITS)})
    with shared.box("first") as first:
        until(lambda: shared.starts("long") == 1, "it runs on the first")
        with shared.box("second") as second:
            burns_at = time.monotonic() + (1.0 if after == "a second" else AFTER_LEASES * shared.lease_s)
            until(lambda: time.monotonic() > burns_at, "the claim is old enough", burns_at)
            assert shared.starts("long") == 1
            first.end()
            killed_at = time.monotonic()
            shutil.rmtree(first.state, ignore_errors=True)
            until(lambda: shared.starts("long") == 2, "it runs on the second", shared.lease_s + 10)
            assert time.monotonic() - killed_at < shared.lease_s + 5
            shared.go("second")
            until(shared.ended, "it ended")
            assert second.stop() == 0
    (receipt,) = shared.ended()
    assert ("succeeded", shared.box_id("second")) == (receipt.end_reason, receipt.box)
    assert (2, 0, []) == (shared.starts("long"), shared.depth(), shared.dead())


@pytest.mark.parametrize("wakes", ["while the other runs it", "when the other has ended it"])
def test_a_box_that_slept_past_its_lease_changes_nothing(shared: SharedQueue, wakes: str) -> None:
    """Frozen, then woken: what it made of the job is stored nowhere, and its job is stopped."""
    outputs = [{"path": "made-by", "url": f"folder://{shared.marks}/out/"}]
    shared.submit({"long": shared.command(WAITS)}, outputs=outputs)
    with shared.box("first") as first:
        until(lambda: shared.starts("long") == 1, "it runs on the first")
        with shared.box("second") as second:
            first.process.send_signal(signal.SIGSTOP)
            until(lambda: shared.starts("long") == 2, "it runs on the second", shared.lease_s + NOTICED_S)
            if wakes == "when the other has ended it":
                shared.go("second")
                until(shared.ended, "the second has ended it")
                shared.go("first")
            first.process.send_signal(signal.SIGCONT)
            first.wait_for("lost", job_id="long")
            shared.go("second")
            second.wait_for("ended", job_id="long")
            told = first.receipt("long")
            assert ("lost", "lease_lost") == (told.state, told.end_reason)
            assert [first.stop(), second.stop()] == [0, 0]
    (receipt,) = shared.ended()
    assert shared.box_id("second") == receipt.box
    assert (shared.marks / "out" / "long" / "made-by").read_text() == "second\n"
    assert (2, 0, []) == (shared.starts("long"), shared.depth(), shared.dead())


@pytest.mark.slow
def test_a_long_job_is_started_and_settled_once(shared: SharedQueue) -> None:
    """However soon the broker loses patience with whoever holds a message unacknowledged."""
    shared.submit({"long": shared.command(f"sleep {LONG_S}")})
    with shared.box("first") as first, shared.box("second") as second:
        until(shared.ended, "it ended", LONG_S + 30)
        until(lambda: first.type("ps", "--json").out == second.type("ps", "--json").out == "[]\n", "it is settled")
        assert [first.stop(), second.stop()] == [0, 0]
    (receipt,) = shared.ended()
    assert ("succeeded", 1, 1) == (receipt.end_reason, receipt.attempt, shared.starts("long"))
    assert (0, []) == (shared.depth(), shared.dead())


def test_jobs_that_ran_on_while_no_runner_did_are_taken_back_after_their_lease(shared: SharedQueue) -> None:
    """The next life renews before it fetches, or finds that nobody else took them up; in any case each ends once."""
    names = [f"long-{number}" for number in range(4)]
    shared.submit({name: shared.command(WAITS) for name in names}, resources={"cpus": 0.1})
    with shared.box("first") as first:
        until(lambda: all(shared.starts(name) == 1 for name in names), "they run")
        first.end()
    lapsed_at = time.monotonic() + shared.lease_s + 1
    until(lambda: time.monotonic() > lapsed_at, "the claims lapsed")
    with shared.box("first") as again:
        shared.go("first")
        until(lambda: len(shared.ended()) == len(names), "they ended")
        # What lapsed is back in the queue: whoever fetches it finds that it is done.
        until(lambda: shared.depth() == 0, "their messages are settled")
        assert again.stop() == 0
    receipts = shared.ended()
    assert Counter(names) == Counter(receipt.id for receipt in receipts)
    assert {"succeeded"} == {receipt.end_reason for receipt in receipts}
    assert (0, []) == (shared.depth(), shared.dead())


def test_a_message_that_cannot_be_read_is_a_dead_letter_with_its_reason(shared: SharedQueue) -> None:
    shared.submit({"broken": [""]}, retries="many")
    with shared.box("first") as first:
        until(shared.dead, "it is rejected")
        assert first.stop() == 0
    (reason,) = shared.dead()
    assert "retries" in reason
    (receipt,) = shared.ended()
    assert ("broken", "rejected", "reject") == (receipt.id, receipt.end_reason, receipt.verdict)
