"""The tables of the vocabulary, whole: end reasons, verdicts, exits, keys, what is not served yet."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.job import (
    ENDINGS,
    FAULTS_MAX,
    HISTORY_MAX,
    ID_PATTERN,
    EndReason,
    Job,
    Note,
    Output,
    PastAttempt,
    Resources,
    Venv,
    Verdict,
    Whose,
    decide,
    follow_exit,
    make_key,
    safe_name,
)
from runner.secret import Secret
from runner.units import Duration, Size, format_duration, format_size, parse_duration, parse_size
from runner.unserved import not_served

PAST = PastAttempt("box-1", "x", 1.0)
TABLE = {
    "succeeded": (Whose.NOBODY, Verdict.ACK, 0),
    "failed": (Whose.JOB, Verdict.RETRY, 9),
    "oom": (Whose.JOB, Verdict.RETRY, 137),
    "gpu_oom": (Whose.JOB, Verdict.RETRY, 137),
    "timeout": (Whose.JOB, Verdict.RETRY, 124),
    "silent": (Whose.JOB, Verdict.RETRY, 124),
    "disk_exceeded": (Whose.JOB, Verdict.RETRY, 125),
    "log_flood": (Whose.JOB, Verdict.RETRY, 125),
    "rejected": (Whose.MESSAGE, Verdict.REJECT, 125),
    "expired": (Whose.MESSAGE, Verdict.REJECT, 125),
    "input_refused": (Whose.MESSAGE, Verdict.REJECT, 125),
    "image_refused": (Whose.MESSAGE, Verdict.REJECT, 125),
    "environment_failed": (Whose.MESSAGE, Verdict.REJECT, 125),
    "cancelled": (Whose.USER, Verdict.ACK, 130),
    "gpu_fault": (Whose.BOX, Verdict.RETRY, 125),
    "preempted": (Whose.BOX, Verdict.RETRY, 125),
    "input_unavailable": (Whose.BOX, Verdict.RETRY, 125),
    "image_unavailable": (Whose.BOX, Verdict.RETRY, 125),
    "output_failed": (Whose.BOX, Verdict.RETRY, 125),
    "disk_full": (Whose.BOX, Verdict.RETRY, 125),
    "runner_fault": (Whose.BOX, Verdict.RETRY, 125),
    "lease_lost": (Whose.OTHER_BOX, None, None),
}


def test_the_table_of_end_reasons_is_whole() -> None:
    assert {reason.value for reason in EndReason} == set(TABLE) == {reason.value for reason in ENDINGS}


@pytest.mark.parametrize("reason", list(EndReason))
def test_each_end_reason_means_what_the_table_says(reason: EndReason) -> None:
    whose, verdict, exit_code = TABLE[reason.value]
    assert ENDINGS[reason].whose is whose
    assert follow_exit(reason, 9) == exit_code
    decision = decide(reason, Note(), 1, PAST)
    assert (decision.verdict if decision else None) is verdict


def test_the_jobs_own_failures_burn_attempts_until_none_is_left() -> None:
    """With two retries the third failure is acknowledged; each is later than the one before."""
    note, verdicts, delays = Note(), [], []
    for _ in range(3):
        decision = decide(EndReason.FAILED, note, 2, PAST)
        assert decision is not None
        note = decision.note
        verdicts.append(decision.verdict)
        delays.append(decision.after_s)
    assert verdicts == [Verdict.RETRY, Verdict.RETRY, Verdict.ACK]
    assert delays == [5.0, 10.0, 0.0]
    assert (note.attempts, note.faults, note.attempt, len(note.history)) == (3, 0, 4, 3)


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 2000))
def test_delays_are_spread_and_bounded(jitter: float, failures: int) -> None:
    """Jobs that failed together come back one by one, at most half as soon, and never later than ten minutes."""
    decision = decide(EndReason.FAILED, Note(attempts=failures), failures + 1, PAST, jitter=jitter)
    assert decision is not None
    longest_s = 600.0 if failures > 6 else 5.0 * 2**failures
    assert longest_s / 2 - 0.001 <= decision.after_s <= longest_s


@pytest.mark.parametrize("name", ["attempts", "faults", "starts", "releases"])
@pytest.mark.parametrize("count", [-1, -5, 1_000_001, 2**63 - 1, 10**30])
def test_a_note_that_counts_what_cannot_be_is_no_note(name: str, count: int) -> None:
    """Any producer may forge one; numbers are used as attempts, for delays and in the journal, which ends there."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(f'{{"{name}": {count}}}', type=Note)


def test_a_history_without_end_keeps_its_newest_lines() -> None:
    forged = Note(boxes=tuple(map(str, range(10_000))), history=(PastAttempt("forged", "x"),) * 10_000)
    decision = decide(EndReason.FAILED, forged, 1, PAST)
    assert decision is not None
    assert len(decision.note.history) == len(decision.note.boxes) == HISTORY_MAX
    assert (decision.note.history[-1], decision.note.boxes[-1]) == (PAST, PAST.box)


def test_faults_of_the_box_are_free_until_the_fifth() -> None:
    note = Note()
    for number in range(1, FAULTS_MAX + 1):
        decision = decide(EndReason.RUNNER_FAULT, note, 0, PAST)
        assert decision is not None
        note = decision.note
        assert decision.verdict is (Verdict.REJECT if number == FAULTS_MAX else Verdict.RETRY)
    assert (note.attempts, note.faults, note.boxes) == (0, 5, ("box-1",))


@given(st.text(max_size=300))
def test_any_id_becomes_a_safe_name(job_id: str) -> None:
    """No id is ever a path, whatever it holds."""
    name = safe_name(job_id)
    assert ID_PATTERN.fullmatch(name)
    key = make_key("queue", job_id, "1")
    assert ID_PATTERN.fullmatch(key)
    assert "/" not in key


def test_keys_tell_queue_id_and_submission_apart() -> None:
    keys = {make_key("q", "a", "1"), make_key("q", "a", "2"), make_key("q", "b", "1"), make_key("p", "a", "1")}
    assert len(keys) == 4
    assert make_key("q", "a", "1") == make_key("q", "a", "1")


def test_what_is_not_served_yet_is_named() -> None:
    assert not_served(Job(command=("true",), resources=Resources(gpus=2))) == ()
    job = Job(venv=Venv(), requires={"site": "b"}, resources=Resources(gpus=0.5), outputs=(Output("x", resume=True),))
    assert not_served(job) == ("venv", "requires", "resources.gpus (a fraction)", "outputs.resume")


def test_every_field_that_is_not_served_has_a_default_that_asks_for_nothing() -> None:
    """A stored message without the field never breaks when it comes to be served."""
    assert not_served(Job()) == ()
    assert all(field.default is not msgspec.NODEFAULT or field.default_factory for field in msgspec.structs.fields(Job))


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("1h30m", 5400), ("250ms", 0.25), ("2d", 172800), (5, 5), (0.5, 0.5)]
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["1 hour", "", "-5s", -1, True, None, "5", "1h 30m", float("nan"), float("inf")])
def test_what_is_no_duration_says_what_to_write(text: object) -> None:
    with pytest.raises(ValueError, match=r"is no duration: write"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"), [("4GiB", 4 << 30), ("4gb", 4 * 10**9), ("1.5MiB", 3 << 19), ("10", 10), (7, 7)]
)
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["x", "", "-4", -4, True, 1.5, None, "4 parsecs"])
def test_what_is_no_size_says_what_to_write(text: object) -> None:
    with pytest.raises(ValueError, match=r"is no size: write"):
        parse_size(text)


def test_people_read_durations_and_sizes() -> None:
    assert [format_duration(s) for s in (0.42, 9.84, 99.9, 200, 7500)] == [
        "0.42 s",
        "9.8 s",
        "99.9 s",
        "3 min 20 s",
        "2 h 5 min",
    ]
    assert [format_size(s) for s in (812, 1536, 1 << 30, 300 << 20)] == ["812 B", "1.5 KiB", "1.0 GiB", "300 MiB"]


def test_a_secret_shows_its_text_only_when_asked() -> None:
    secret = Secret("hunter2")
    assert secret.reveal() == "hunter2"
    assert {str(secret), repr(secret), f"{secret}", f"{secret:>3}"} == {"***"}
    assert "hunter2" not in repr({"password": secret})
    with pytest.raises(TypeError):
        msgspec.json.encode(secret)
    assert Secret("a") == Secret("a") != Secret("b")


def test_units_are_plain_numbers() -> None:
    assert Duration(60) / 2 == 30
    assert Size(4) + 1 == 5
