"""What must hold around a whole run: the machine as it was, nothing left behind, enough code executed."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.services import orphans
from tests.suite import listeners
from tests.suite.outcome import Outcome


def checked(listeners_before: frozenset[str], scratch: Path, keeper: int, logs: Path) -> list[Outcome]:
    """Check the machine after everything was stopped, and how much of the code the tests executed."""
    started = time.monotonic()
    house = Outcome(name="house")
    _check(house, "standard ports are as they were", lambda: listeners_before ^ listeners.standing())
    _check(house, "no process is left", lambda: orphans.await_none(keeper).values())
    _check(house, "no file and no mount is left", lambda: _remains(scratch))
    _check(house, "every test belongs to one group", lambda: _misplaced(logs))
    house.seconds = time.monotonic() - started
    return [house, _coverage(logs)]


def _check(outcome: Outcome, what: str, wrong: Callable[[], Iterable[str]]) -> None:
    found = sorted(wrong())
    if found:
        outcome.fail(f"{what}: not so: {', '.join(found)}")
    else:
        outcome.passed += 1


def _remains(scratch: Path) -> list[str]:
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [mount for mount in mounts if Path(mount).is_relative_to(scratch)] + [str(scratch)] * scratch.exists()


def _misplaced(logs: Path) -> list[str]:
    """Name the tests that no group ran, and those that two did."""
    groups = Counter(test for progress in logs.glob("*.progress") for test in _reported(progress))
    collected = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "--color=no"],
        capture_output=True,
        text=True,
        check=False,
    )
    tests = {line for line in collected.stdout.splitlines() if "::" in line}
    return [f"{test} in none" for test in tests - groups.keys()] + [
        f"{test} in {n}" for test, n in groups.items() if n > 1
    ]


def _reported(progress: Path) -> set[str]:
    return {json.loads(line)["test"] for line in progress.read_text().splitlines()}


def _coverage(logs: Path) -> Outcome:
    started = time.monotonic()
    outcome = Outcome(name="coverage")
    coverage = [sys.executable, "-m", "coverage"]
    files = [str(path) for path in logs.glob(".coverage.*")]
    combined = f"--data-file={logs / '.coverage'}"
    subprocess.run([*coverage, "combine", "-q", combined, *files], capture_output=True, check=False)
    result = subprocess.run([*coverage, "report", combined], capture_output=True, text=True, check=False)
    outcome.seconds = time.monotonic() - started
    if result.returncode == 0:
        outcome.passed += 1
        return outcome
    outcome.fail(" ".join(result.stdout.splitlines()[-1:]) or result.stderr.strip())
    outcome.output = result.stdout
    return outcome
