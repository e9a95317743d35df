"""The benchmark of credential files runs, takes every way of dropping one, and reports one line."""

from __future__ import annotations

import json

import pytest

from tests.bench.test_mailbox import python

WAYS = ("drop", "in_place", "swapped", "bare")


@pytest.mark.slow
def test_every_way_of_dropping_a_file_is_measured_beside_a_bare_loop() -> None:
    done = python("bench/credentials.py", "--rounds", "2")
    assert (0, 1) == (done.returncode, done.stdout.count("\n")), done.stderr
    line = json.loads(done.stdout)
    times = {f"{way}_{quantile}_ms" for way in WAYS for quantile in ("p50", "p99")}
    assert {"bench", "rounds", "bars", "reached"} | times == set(line)
    assert all(0 < line[name] < 30_000 for name in times)
    assert line["reached"] == (line["drop_p99_ms"] <= line["bars"]["drop_p99_ms"])
