"""A job that runs on two boxes, one after the other: its log is one, in order, and it ends once."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.at_work import end_orphans, until
from tests.cli.typed import started
from tests.shared_queue import SharedQueue, service

pytestmark = [pytest.mark.broker, pytest.mark.integration]

COUNT = 20_000
SCRIPT = """
case "$PWD" in {first}/*) box=first;; *) box=second;; esac
seq -f "attempt $RUNNER_ATTEMPT on $box, line %.0f" {count}
if [ $box = first ]; then touch {marks}/written; {then}; fi
"""
HANGS = "while :; do sleep 0.1; done"
FAILS = "exit 3"
Record = dict[str, Any]


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[SharedQueue]:
    """A queue of a real Redis, which has a stream for each job as well."""
    if "RUNNER_TEST_REDIS" not in os.environ:
        pytest.skip("no redis: RUNNER_TEST_REDIS is not set; run `make test`")
    sink = f'sinks = ["{os.environ["RUNNER_TEST_REDIS"]}/0?channel=log:{{id}}&stream={tmp_path.name}:{{id}}"]'
    yield SharedQueue(tmp_path, service("redis"), more=sink)
    end_orphans(tmp_path)


def submit(shared: SharedQueue, *, then: str) -> None:
    script = SCRIPT.format(count=COUNT, first=shared.directory / "first", marks=shared.marks, then=then)
    shared.submit({"moves": ["sh", "-c", script]}, retries=1)


def end_on_the_second(shared: SharedQueue) -> tuple[str, int]:
    """Return how it ended there, and in which attempt."""
    with shared.box("second") as second:
        until(shared.ended, "it ended", 60)
        until(lambda: ends(logged(shared)), "its end is told")
        until(lambda: ends(streamed(shared)), "its end is in the stream", 10)
        assert second.stop() == 0
    (receipt,) = shared.ended()
    assert shared.box_id("second") == receipt.box
    return str(receipt.end_reason), receipt.attempt


def test_attempts_on_two_boxes_are_one_log_in_order(shared: SharedQueue) -> None:
    """The first attempt fails on one box, which leaves; the second succeeds on another."""
    submit(shared, then=FAILS)
    with shared.box("first") as first:
        until((shared.marks / "written").exists, "the first attempt wrote all")
        assert first.stop() == 0
    assert ("succeeded", 2) == end_on_the_second(shared)
    for records in (logged(shared), streamed(shared)):
        assert lines(1, "first") + lines(2, "second") == texts(records)
        assert_ordered(records)
        assert ["succeeded"] == ends(records)


def test_the_log_of_a_box_that_died_gives_way_to_that_of_the_next(shared: SharedQueue) -> None:
    """It is the same attempt, since a box that died is no failure of the job's; nothing of the two is mixed."""
    submit(shared, then=HANGS)
    with shared.box("first") as first:
        until(lambda: len(texts(logged(shared))) == COUNT, "its log is told", 20)
        first.end()
        end_orphans(shared.directory / "first")
    assert ("succeeded", 1) == end_on_the_second(shared)
    assert lines(1, "second") == texts(logged(shared))
    assert_ordered(logged(shared))
    assert ["succeeded"] == ends(logged(shared))
    assert ["succeeded"] == ends(streamed(shared))


def test_a_stream_has_all_that_the_box_printed_that_ended_the_job(shared: SharedQueue) -> None:
    """Both boxes run attempt 1; the positions of the one that died say nothing of the other one's log."""
    submit(shared, then=HANGS)
    with shared.box("first") as first:
        until(lambda: len(texts(streamed(shared))) == COUNT, "its log is in the stream", 20)
        first.end()
        end_orphans(shared.directory / "first")
    assert ("succeeded", 1) == end_on_the_second(shared)
    heard = streamed(shared)
    assert lines(1, "second") == [line for line in texts(heard) if "on second" in line]
    assert ["succeeded"] == ends(heard)


def lines(attempt: int, box: str) -> list[str]:
    return [f"attempt {attempt} on {box}, line {number}" for number in range(1, COUNT + 1)]


def logged(shared: SharedQueue) -> list[Record]:
    """Return what a user on a laptop reads of the job."""
    words = ("logs", "moves", "--json", "--credential", shared.credential)
    said = started(*words, environ={"RUNNER_STATE_DIR": str(shared.directory / "laptop")})
    return [json.loads(line) for line in said.out.splitlines()] if said.status == 0 else []


def streamed(shared: SharedQueue) -> list[Record]:
    """Return what stands in the job's stream."""
    with redis.Redis.from_url(os.environ["RUNNER_TEST_REDIS"]) as client:
        found: Any = client.xrange(f"{shared.directory.name}:moves")
    return [json.loads(fields[b"data"]) for _, fields in found]


def texts(records: list[Record]) -> list[str]:
    """Return the lines that the job wrote to stdout."""
    return "".join(str(record["text"]) for record in records if record.get("stream") == "stdout").splitlines()


def assert_ordered(records: list[Record]) -> None:
    places = [(record["attempt"], record["sequence"]) for record in records if "sequence" in record]
    assert [] == [pair for pair in itertools.pairwise(places) if pair[0] >= pair[1]]


def ends(records: list[Record]) -> list[str]:
    """Return how it ended, each time that it was told."""
    return [record["event"]["end_reason"] for record in records if "event" in record and record["event"]["end_reason"]]
