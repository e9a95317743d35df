"""The benchmark of queues measures everybody on each service it is given, and every job runs once; not how fast."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.bench.test_mailbox import python

ROW = {"dispatched", "jobs_a_second", "p50_ms", "p99_ms", "after_put_p50_ms", "after_put_p99_ms", "overtaken"}
JOBS = 8
BROKERS = {"redis": {"arq", "celery"}, "rabbitmq": set[str](), "sqs": set[str]()}


def measured(kind: str, *, turns: int = 1) -> dict[str, Any]:
    """Run it on a small scale; a job that ran twice, or not at all, would end it."""
    small = ("--rounds", str(turns), "--jobs", str(JOBS), "--backlog", "10", "--services", kind)
    done = python("bench/queues.py", *small)
    assert (0, 1) == (done.returncode, done.stdout.count("\n")), done.stderr
    line: dict[str, Any] = json.loads(done.stdout)
    for name, rows in line["rows"].items():
        for who, row in rows.items():
            assert set(row) == ROW
            assert row["dispatched"] == JOBS * turns, (name, who)
            assert row["jobs_a_second"] > 0
            assert 0 < row["p50_ms"] <= row["p99_ms"]
            assert f"{name:9} {who:7}" in done.stderr
    return line


@pytest.mark.slow
def test_ours_and_a_bare_consumer_are_measured_on_a_folder() -> None:
    line = measured("folder", turns=2)
    assert {"folder": {"ours", "bare"}} == {kind: set(rows) for kind, rows in line["rows"].items()}
    assert set(line["compared"]["folder"]) == {"p99_over_bare_ms", "rate_over_bare"}
    assert line["reached"] is not bool(line["missed"])
    assert min(line["steps_ms"]["folder"].values()) >= 0


@pytest.mark.broker
@pytest.mark.parametrize("kind", BROKERS)
def test_each_broker_that_is_here_is_measured_with_its_peers(kind: str) -> None:
    line = measured(kind)
    if reason := line["absent"].get(kind):
        pytest.skip(reason)
    assert {"ours", "bare", *BROKERS[kind]} == set(line["rows"][kind])
    ratios = {f"rate_over_{who}" for who in ("bare", *BROKERS[kind])}
    assert {"p99_over_bare_ms", *ratios} == set(line["compared"][kind])
    assert ("claim_ms" in line) is (kind == "rabbitmq")
