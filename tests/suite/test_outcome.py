"""What the last lines of a run say must be true, strict or not."""

from tests.suite.outcome import GPU_GAP, Gap, Outcome, strict
from tests.suite.screen import summary, verdict


def test_the_last_line_counts_every_group() -> None:
    outcomes = [
        Outcome(name="a", passed=3, gaps=[Gap(reason="no engine", count=2)]),
        Outcome(name="b", passed=4, failed=1),
    ]
    assert verdict(outcomes) == "7 passed, 1 failed, 2 skipped"
    assert verdict([Outcome(name="a", passed=3)]) == "3 passed, 0 failed"


def test_strict_turns_gaps_into_failures_except_those_of_a_named_kind() -> None:
    outcome = Outcome(name="a", gaps=[Gap(reason="no engine", count=2), Gap(reason="no GPU", kind=GPU_GAP, count=5)])
    strict([outcome], frozenset({GPU_GAP}))
    assert verdict([outcome]) == "0 passed, 2 failed, 5 skipped"


def test_strict_counts_a_group_without_tests() -> None:
    outcome = Outcome(name="a", gaps=[Gap(reason="this group holds no tests", count=0)])
    strict([outcome], frozenset())
    assert outcome.failed == 1


def test_the_summary_names_failures_and_gaps_with_their_reasons() -> None:
    outcome = Outcome(name="docker", gaps=[Gap(reason="no engine", count=2)])
    outcome.fail("tests/test_x.py::test_y")
    lines = summary([outcome])
    assert "   docker: tests/test_x.py::test_y" in lines
    assert "   docker: no engine (2 tests)" in lines
