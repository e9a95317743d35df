"""What follows from how a job ended: the same whoever decides it, and not for all jobs at the same moment."""

from __future__ import annotations

import pytest

from runner.job import EndReason, Job, Key, Note, Verdict
from runner.leaving import Leaving, decision_of, receipt_of, release_of
from runner.receipt import LogAccount
from runner.records import ClaimedJob, Outcome


def leaving(key: str, reason: EndReason, faults: int = 0) -> Leaving:
    note = Note(faults=faults)
    claim = ClaimedJob(Key(key), Job(id=key, retries=3), "q", "q", "file", attempt=note.attempt, note=note)
    return Leaving(claim, Outcome(reason, started_at=10.0, ended_at=15.0))


@pytest.mark.parametrize(("reason", "burnt"), [(EndReason.FAILED, (1, 0)), (EndReason.GPU_FAULT, (0, 1))])
def test_retries_of_jobs_that_failed_together_are_spread(reason: EndReason, burnt: tuple[int, int]) -> None:
    """Fifty jobs meet the same fault: they do not come back in one heap, and none sooner than half the delay."""
    delays = []
    for number in range(50):
        one = leaving(f"job-{number}", reason)
        receipt, decision = receipt_of(one, (), LogAccount(), box="box-1", now=20.0)
        assert decision is not None
        assert (decision.verdict, decision.note.attempts, decision.note.faults) == (Verdict.RETRY, *burnt)
        again = decision_of(receipt, one.claim)
        assert again is not None
        assert again.after_s == decision.after_s, "who settles it in our stead keeps the delay"
        delays.append(decision.after_s)
    assert 2.5 <= min(delays) < 3.0
    assert 4.5 < max(delays) <= 5.0
    assert len(set(delays)) > 40


def test_the_fifth_fault_of_boxes_ends_it_as_a_dead_letter() -> None:
    _, decision = receipt_of(leaving("job", EndReason.RUNNER_FAULT, 4), (), LogAccount(), box="box-1", now=20.0)
    assert decision is not None
    assert decision.verdict is Verdict.REJECT


@pytest.mark.parametrize(("over_cap", "releases"), [(False, 1), (True, 0)])
def test_a_release_for_a_cap_is_not_counted(over_cap: bool, releases: int) -> None:  # noqa: FBT001 - a row of the table
    """Three that are counted tell a box that no other wants the job, which a cap does not say."""
    claim = leaving("job", EndReason.PREEMPTED).claim
    given_back = Leaving(claim, Outcome(EndReason.PREEMPTED), release_after_s=60.0, over_cap=over_cap)
    _, decision = release_of(given_back, "box-1")
    assert (decision.verdict, decision.note.releases, decision.after_s) == (Verdict.RELEASE, releases, 60.0)


def test_an_engine_whose_clock_is_behind_makes_no_attempt_shorter_than_nothing() -> None:
    claim = leaving("job", EndReason.FAILED).claim
    early = Leaving(claim, Outcome(EndReason.FAILED, started_at=10.0, ended_at=9.98))
    receipt, decision = receipt_of(early, (), LogAccount(), box="box-1", now=20.0)
    assert decision is not None
    assert receipt.stages["running"] == decision.note.history[-1].seconds == 0.0
