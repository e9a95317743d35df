"""What a group reports is all that happened in it."""

import os
from pathlib import Path

import pytest

from tests.suite.groups import Group
from tests.suite.outcome import Outcome
from tests.suite.running import Place, run_group

PASSES = "def test_passes(): pass\n"
FAILS = "def test_fails(): assert 1 == 2\n"
CRASHES = "def test_crashes(): __import__('os')._exit(9)\n"


def outcome_of(directory: Path, *tests: str) -> Outcome:
    file = directory / "test_file.py"
    file.write_text("".join(tests))
    place = Place(environment={}, directory=directory, coverage=False, watch=lambda _: None)
    return run_group(Group(name="group", shows="", tests=(os.path.relpath(file),)), place)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("tests", "passed", "failures"),
    [
        ((PASSES,), 1, []),
        ((PASSES, FAILS), 1, ["test_fails"]),
        ((PASSES, CRASHES), 1, ["pytest ended with 9"]),
        ((FAILS, CRASHES, PASSES), 0, ["test_fails", "pytest ended with 9"]),
    ],
)
def test_a_crash_is_told_also_after_a_failure(
    tmp_path: Path, tests: tuple[str, ...], passed: int, failures: list[str]
) -> None:
    """Else the tests behind it are missed by nobody."""
    outcome = outcome_of(tmp_path, *tests)
    assert (passed, failures) == (outcome.passed, [failure.rpartition("::")[2] for failure in outcome.failures])
