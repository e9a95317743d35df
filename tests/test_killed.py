"""
``kill -9`` on a real runner while a real process job runs: the job notices nothing, and nothing is lost or doubled.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cli.runners import running

pytestmark = pytest.mark.integration

ROUNDS = 20
AT_ONCE = 4
JOB = """
import os, sys, time
print("pid", os.getpid(), flush=True)
for number in range(1, 401):
    print(number, flush=True)
    time.sleep(0.01)
print("pid", os.getpid(), flush=True)
sys.exit(7)
"""


def pause(seconds: float) -> None:
    """Let a random stretch of real time pass: the instant of a kill is the point of these tests."""
    threading.Event().wait(seconds)


def survive(seed: int, state: Path) -> None:
    """Submit, kill at a random instant of the job's four seconds, start again after 0 to 3 s, and check everything."""
    seeded = random.Random(seed)
    with running(state) as first:
        assert first.type("submit", "--id", "counts", "--", "python3", "-c", JOB).out == "counts\n"
        pause(seeded.uniform(0.0, 4.5))
        first.process.kill()
        first.process.wait(timeout=10)
    pause(seeded.uniform(0.0, 3.0))
    with running(state) as second:
        followed = second.type("logs", "-f", "counts")
        assert followed.status == 0, f"seed {seed}: {followed.err}"
        check_lines(followed.out.splitlines(), seed)
        check_account(second.type, state, seed)
        assert second.stop() == 0


def check_lines(lines: list[str], seed: int) -> None:
    assert len(lines) == 402, f"seed {seed}: {len(lines)} lines: {lines[:3]} … {lines[-3:]}"
    assert lines[0] == lines[-1], f"seed {seed}: another process went on: {lines[0]}, {lines[-1]}"
    assert lines[1:-1] == [str(number) for number in range(1, 401)], f"seed {seed}: lines are missing or out of order"


def check_account(type_: Callable[..., object], state: Path, seed: int) -> None:
    """The real exit code, one attempt, one receipt, one settlement, and the log's own figures."""
    receipt = json.loads(type_("show", "counts", "--json").out)  # type: ignore[attr-defined]
    told = (receipt["end_reason"], receipt["exit_code"], receipt["attempt"], receipt["verdict"])
    assert told == ("failed", 7, 1, "ack"), f"seed {seed}: {receipt}"
    assert (receipt["log"]["lines"], receipt["log"]["gaps"]) == (402, 0), f"seed {seed}: {receipt['log']}"
    assert len(list((state / "queue" / "results").rglob("*receipt*"))) == 1
    left = [path for part in ("ready", "claimed", "later", "dead") for path in (state / "queue" / part).glob("*")]
    assert left == [], f"seed {seed}: the queue still holds {left}"


def test_a_killed_runner_loses_and_doubles_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Twenty rounds, four at a time; a failure names its seed."""
    states = [tmp_path_factory.mktemp(f"round{seed}") for seed in range(ROUNDS)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(survive, seed, state) for seed, state in enumerate(states)]:
            done.result()
