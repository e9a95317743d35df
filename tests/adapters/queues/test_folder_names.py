"""The names of a folder queue's files: all that a queue must know stands in them, and they sort by it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from adapters.queues.folder_names import (
    claim_name,
    is_message,
    name_message,
    read_claim,
    read_message,
    read_stamped,
    retried_name,
    stamped_name,
    token_message,
)
from runner.job import safe_name

NAME_MAX_BYTES = 255
TIMES = st.floats(0, 9_999_999_999)
PRIORITIES = st.integers(-(10**30), 10**30)
TEXTS = st.text(max_size=300)
SUBMISSION = "0123456789abcdef01234567"


@given(priority=PRIORITIES, at=TIMES, user=TEXTS, job_id=TEXTS.filter(lambda text: text.isprintable()))
def test_a_name_says_what_it_was_made_of(priority: int, at: float, user: str, job_id: str) -> None:
    name = name_message(priority=priority, at=at, submission=SUBMISSION, user=user, job_id=job_id)
    message = read_message(name)
    assert message is not None
    assert (SUBMISSION, safe_name(job_id) if job_id else "") == (message.submission, message.job)
    assert abs(message.enqueued_at - at) < 2e-6
    token = f"{name}~{'f' * 16}"
    assert (name, token) == (token_message(token), (read_claim(claim_name(token, at)) or ("",))[0])
    assert name == (read_stamped(stamped_name(at, name)) or (0, ""))[1]
    longest = max(claim_name(token, at), stamped_name(at, name), key=len)
    assert len(longest.encode()) <= NAME_MAX_BYTES
    assert "/" not in longest


@given(st.lists(st.tuples(st.integers(-(10**9) + 1, 10**9 - 1), st.integers(0, 10**15)), min_size=2, max_size=30))
def test_names_sort_by_priority_then_age(messages: list[tuple[int, int]]) -> None:
    """So a directory's listing, sorted as text, is the queue's order."""
    names = {
        name_message(priority=priority, at=micros / 1e6, submission=SUBMISSION, user="", job_id=f"{index}"): index
        for index, (priority, micros) in enumerate(messages)
    }
    expected = sorted(range(len(messages)), key=lambda index: (-messages[index][0], messages[index][1], f"{index}"))
    assert expected == [names[name] for name in sorted(names)]


@given(st.text(max_size=100) | st.from_regex(r"[0-9~-]{10,80}"))
def test_no_foreign_name_is_taken_for_one_of_ours_or_breaks_anything(name: str) -> None:
    assert is_message(name) == (read_message(name) is not None)
    for read in (read_claim, read_stamped):
        read(name)


def test_a_retried_name_keeps_all_but_submission_and_age() -> None:
    name = name_message(priority=7, at=1.0, submission=SUBMISSION, user="ada", job_id="a-b-c")
    retried = retried_name(name, 2.0)
    message = read_message(retried)
    assert message is not None
    assert ("a-b-c", 2.0) == (message.job, message.enqueued_at)
    assert message.submission != SUBMISSION
    assert (name.split("-")[0], name.split("-")[3]) == (retried.split("-")[0], retried.split("-")[3])
