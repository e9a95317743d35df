"""The benchmark of logs measures everybody, and every line arrives once and in order; not how fast."""

from __future__ import annotations

import json
from array import array
from typing import Any

import pytest

from bench.log_check import Check
from bench.log_figures import missed
from bench.log_pauses import pauses_of
from bench.log_writer import LINE_BYTES, stamp_of
from runner.ports import LogLine
from tests.bench.test_mailbox import python
from tests.services.service import find_program

SMALL = {
    "rounds": 1,
    "lines": 20_000,
    "jobs": 2,
    "rate": 1_000,
    "seconds": 1,
    "seed-lines": 1_000,
    "latency-seconds": 1,
    "outage-seconds": 1,
    "limit": 60,
}
FLOOD = {"ours_one", "limit_one", "seeds_one", "published", "ours_many", "limit_many", "seeds_many"}
OUTAGE = ("healthy", "redis_killed")
needs_redis = pytest.mark.skipif(find_program("redis-server") is None, reason="redis-server is not installed")


def measured(*words: str) -> dict[str, Any]:
    """Run it on a small scale, and look whether anything failed, or a line did not come as it was written."""
    sizes = [f"--{name}={value}" for name, value in SMALL.items()]
    done = python("bench/logs.py", *sizes, *words)
    assert (0, 1) == (done.returncode, done.stdout.count("\n")), done.stderr
    line: dict[str, Any] = json.loads(done.stdout)
    assert ([], {}) == (line["failed"], line["absent"]), done.stderr
    assert [] == [it for it in line["missed"] if " lines " in it]
    return line


@needs_redis
@pytest.mark.slow
@pytest.mark.broker
def test_everybody_is_measured_with_processes() -> None:
    line = measured("--runtimes", "process", "--parts", "flood", "latency", "outage", "--outages", *OUTAGE)
    rows = line["rows"]
    assert (FLOOD, set(OUTAGE)) == (set(rows["flood/process"]), set(rows["outage/process"]))
    assert min(row["lines_a_second"] for row in rows["flood/process"].values()) > 0
    assert 0 < rows["latency/process"]["ours"]["p50_ms"] <= rows["latency/process"]["ours"]["p99_ms"]
    assert 2 == rows["outage/process"]["redis_killed"]["connections"]
    assert {"over_file_limit_one", "over_seeds_one", "over_published_one"} <= set(line["compared"]["flood/process"])


@needs_redis
@pytest.mark.slow
@pytest.mark.docker
def test_everybody_is_measured_with_containers() -> None:
    line = measured("--runtimes", "container", "--parts", "flood")
    assert FLOOD == set(line["rows"]["flood/container"])
    assert {"over_attach_limit_one", "over_attach_limit_many"} <= set(line["compared"]["flood/container"])


def text(*numbers: int, made_at: float = 1_700_000_000.0) -> str:
    """Return lines as a measured job writes them."""
    return "".join(f"{number:09d} {made_at:017.6f} ".ljust(LINE_BYTES - 1, "x") + "\n" for number in numbers)


def test_lines_that_are_lost_or_come_again_or_are_damaged_are_counted() -> None:
    check = Check(8, array("d"))
    for part in (text(0, 1)[:150], text(0, 1)[150:], text(4, 5), text(5), text(6)[:-3] + "\n"):
        check.take(part, 1_700_000_001.0)
    assert (2, 1, 1, 7, False) == (check.lost, check.again, check.damaged, check.next, check.is_done)
    check.take(text(7), 1_700_000_001.0)
    assert check.is_done


def test_only_what_was_there_to_read_makes_a_pause() -> None:
    """The job says nothing for a second, then reading is late by a tenth."""
    made = [10.0, 11.0, 11.1]
    records = [
        LogLine(1, number, int((made_at + late_s) * 1e9), "stdout", text(number, made_at=made_at).encode())
        for number, (made_at, late_s) in enumerate(zip(made, (0.0, 0.01, 0.1), strict=True))
    ]
    pauses = pauses_of(records)
    assert (100.0, 1000.0) == (round(pauses.read_ms, 3), round(pauses.own_ms, 3))
    assert made[0] == stamp_of(records[0].data)


def test_what_is_under_its_bar_or_did_not_arrive_is_named() -> None:
    turn = {"ours": {"p50_ms": 51.0, "p99_ms": 60.0, "lost": 3.0}}
    assert [
        "latency, process: p50_ms is 51, its bar 50",
        "latency, process, ours: 3 lines lost",
    ] == list(missed("latency", "process", [turn]))
