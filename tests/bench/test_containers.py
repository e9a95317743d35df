"""The benchmark of containers measures everybody, and every container runs to its end; not how fast."""

from __future__ import annotations

import json

import pytest

from tests.bench.test_mailbox import python

pytestmark = [pytest.mark.docker, pytest.mark.slow]

WHO = {"ours", "backlog", "sealed", "unsealed", "docker_run"}


def test_everybody_is_measured_at_each_number_at_once() -> None:
    done = python("bench/containers.py", "--rounds", "1", "--jobs", "2")
    assert (0, 1) == (done.returncode, done.stdout.count("\n")), done.stderr
    line = json.loads(done.stdout)
    assert {"1": WHO, "4": WHO} == {slots: set(row) for slots, row in line["ms_a_job"].items()}
    assert min(ms for row in line["ms_a_job"].values() for ms in row.values()) > 0


def test_containers_of_a_killed_runner_are_all_taken_back() -> None:
    """It would end with an error where one of them was not."""
    done = python("bench/containers.py", "--adopt", "--rounds", "1", "--containers", "5")
    assert (0, 1) == (done.returncode, done.stdout.count("\n")), done.stderr
    assert json.loads(done.stdout)["adopted_s"] > 0
