"""What every queue does with a verdict: retries, releases, dead letters, withdrawal; once, however often it is told."""

from __future__ import annotations

import asyncio

import pytest

from runner.errors import LeaseLost
from runner.job import Note, PastAttempt, Verdict
from runner.ports import Queue
from tests.conformance.queue_harness import OTHER_BOX, QueueHarness, acknowledge, drained, fetched, opened

NOTE = Note(
    attempts=1,
    faults=2,
    starts=3,
    releases=4,
    boxes=("box-1", "bóx-2"),
    refused_by=("box-3",),
    last_reason="failed",
    history=(PastAttempt("box-1", "failed", 1.5), PastAttempt("bóx-2", "preempted", 0.25)),
)


async def settled(queue: Queue, verdict: Verdict, *, after_s: float = 0.0, reason: str = "") -> str:
    """Put a message, settle it, and return the token that it was settled with."""
    await queue.put(b"body", job_id="a", priority=5)
    delivery = await fetched(queue)
    await queue.settle(delivery.token, verdict, after_s=after_s, note=NOTE, reason=reason)
    return delivery.token


def test_an_acknowledged_message_is_gone(queue_harness: QueueHarness) -> None:
    async def main() -> None:
        async with opened(queue_harness) as queue:
            await settled(queue, Verdict.ACK)
            await queue_harness.pass_time(queue_harness.lapsed_s)
            async with opened(queue_harness, OTHER_BOX) as other:
                assert await other.fetch(0) is None
            assert (0, ()) == (await queue.depth(), await queue.dead())

    asyncio.run(main())


@pytest.mark.parametrize("verdict", [Verdict.RETRY, Verdict.RELEASE])
def test_a_delayed_message_waits_its_time_and_carries_its_note(queue_harness: QueueHarness, verdict: Verdict) -> None:
    """A waiting retry lives in the broker, where any box may take it up."""

    async def main() -> None:
        async with opened(queue_harness) as queue:
            submission = await queue.put(b"body", job_id="a")
            enqueued_at = queue_harness.now()
            first = await fetched(queue)
            await queue_harness.step()
            await queue.settle(first.token, verdict, after_s=queue_harness.delay_s, note=NOTE, reason="failed")
            await queue_harness.pass_time(queue_harness.delay_s - queue_harness.tick_s)
            async with opened(queue_harness, OTHER_BOX) as other:
                assert await other.fetch(0) is None
            await queue_harness.pass_time(2 * queue_harness.tick_s)
            async with opened(queue_harness, OTHER_BOX) as other:
                second = await fetched(other)
                assert (NOTE, submission) == (second.note, second.submission)
                assert queue_harness.about(enqueued_at) == second.enqueued_at
                assert first.token != second.token

    asyncio.run(main())


def test_a_retry_that_is_due_ends_a_wait(queue_harness: QueueHarness) -> None:
    """The box that waits for it need not be asked again."""

    async def main() -> None:
        async with opened(queue_harness) as queue:
            await settled(queue, Verdict.RETRY, after_s=queue_harness.delay_s)
            assert await queue.fetch(0) is None
            waiting = asyncio.create_task(queue.fetch(20))
            await queue_harness.pass_time(queue_harness.delay_s + queue_harness.tick_s)
            delivery = await waiting
            assert delivery is not None

    asyncio.run(main())


@pytest.mark.able("release in place")
def test_a_released_message_is_at_its_old_place_at_once(queue_harness: QueueHarness) -> None:
    async def main() -> None:
        async with opened(queue_harness) as queue:
            for number in range(3):
                await queue.put(b"%d" % number, job_id=f"j{number}")
                await queue_harness.step()
            first = await fetched(queue)
            await queue.settle(first.token, Verdict.RELEASE, after_s=0, note=Note(releases=1), reason="")
            again = await fetched(queue)
            assert (b"0", Note(releases=1)) == (again.body, again.note)

    asyncio.run(main())


@pytest.mark.able("tell settled from lost")
@pytest.mark.parametrize("verdict", list(Verdict))
def test_settling_again_changes_nothing(queue_harness: QueueHarness, verdict: Verdict) -> None:
    """A call that was answered too late is made again."""
    _settle_again(queue_harness, verdict, restarted=False)


@pytest.mark.able("tell settled from lost", "remember settlements")
@pytest.mark.parametrize("verdict", list(Verdict))
def test_settling_again_after_a_restart_changes_nothing(queue_harness: QueueHarness, verdict: Verdict) -> None:
    """A runner that was killed before it noted the confirmation settles again from its journal."""
    _settle_again(queue_harness, verdict, restarted=True)


def _settle_again(queue_harness: QueueHarness, verdict: Verdict, *, restarted: bool) -> None:
    async def main() -> None:
        async with opened(queue_harness) as queue, opened(queue_harness) as second_life:
            token = await settled(queue, verdict, after_s=queue_harness.delay_s, reason="why")
            again = second_life if restarted else queue
            for _ in range(2):
                await again.settle(token, verdict, after_s=queue_harness.delay_s, note=NOTE, reason="why")
            with pytest.raises(LeaseLost):
                await again.renew(token)
            expected_dead = 1 if verdict is Verdict.REJECT else 0
            expected_back = 1 if verdict in {Verdict.RETRY, Verdict.RELEASE} else 0
            assert expected_dead == len(await queue.dead())
        await queue_harness.pass_time(queue_harness.delay_s + queue_harness.tick_s)
        async with opened(queue_harness, OTHER_BOX) as other:
            assert [NOTE] * expected_back == [delivery.note for delivery in await drained(other)]

    asyncio.run(main())


@pytest.mark.able("tell settled from lost")
@pytest.mark.parametrize("first", [Verdict.RETRY, Verdict.RELEASE, Verdict.REJECT])
@pytest.mark.parametrize("second", list(Verdict))
def test_settling_otherwise_is_a_lost_lease(queue_harness: QueueHarness, first: Verdict, second: Verdict) -> None:
    async def main() -> None:
        async with opened(queue_harness) as queue:
            token = await settled(queue, first, after_s=queue_harness.delay_s)
            if first is not second:
                with pytest.raises(LeaseLost):
                    await queue.settle(token, second, after_s=0, note=Note(), reason="")
                dead = await queue.dead()
                assert (1 if first is Verdict.REJECT else 0) == len(dead)

    asyncio.run(main())


@pytest.mark.able("tell settled from lost")
def test_settling_otherwise_than_acknowledged_is_a_lost_lease(queue_harness: QueueHarness) -> None:
    async def main() -> None:
        async with opened(queue_harness) as queue:
            token = await settled(queue, Verdict.ACK)
            for verdict in (Verdict.RETRY, Verdict.RELEASE, Verdict.REJECT):
                with pytest.raises(LeaseLost):
                    await queue.settle(token, verdict, after_s=0, note=Note(), reason="")
            assert (0, ()) == (await queue.depth(), await queue.dead())

    asyncio.run(main())


# Dead letters


def test_a_rejected_message_is_a_dead_letter_with_its_reason_and_history(queue_harness: QueueHarness) -> None:
    async def main() -> None:
        async with opened(queue_harness) as queue:
            settled_at = []
            for number in range(3):
                await queue.put(b"%d" % number, job_id=f"j{number}")
                delivery = await fetched(queue)
                await queue_harness.step()
                settled_at.append(queue_harness.now())
                await queue.settle(delivery.token, Verdict.REJECT, after_s=0, note=NOTE, reason=f"bád {number}\n")
            await queue_harness.pass_time(queue_harness.lapsed_s)
            async with opened(queue_harness, OTHER_BOX) as other:
                assert await other.fetch(0) is None
                rows = await other.dead()
                assert ["bád 0\n", "bád 1\n", "bád 2\n"] == [row.reason for row in rows], "oldest first"
                assert [NOTE] * 3 == [row.note for row in rows]
                assert [(b"%d" % number, f"j{number}") for number in range(3)] == [
                    (row.body, row.job_id or f"j{index}") for index, row in enumerate(rows)
                ]
                assert settled_at == [queue_harness.about(row.at) for row in rows]

    asyncio.run(main())


def test_a_dead_letter_waits_again_as_a_new_submission(queue_harness: QueueHarness) -> None:
    """What is known of the old submission (its receipt, its journal entry, its age) must not end it again at once."""

    async def main() -> None:
        async with opened(queue_harness) as queue:
            await settled(queue, Verdict.REJECT, reason="why")
            (row,) = await queue.dead()
            await queue_harness.step()
            assert await queue.retry_dead(row.submission)
            assert ((), 1) == (await queue.dead(), await queue.depth())
            assert not await queue.retry_dead(row.submission)
            again = await fetched(queue)
            assert (b"body", Note()) == (again.body, again.note)
            assert queue_harness.about(queue_harness.now()) == again.enqueued_at
            assert row.submission != again.submission

    asyncio.run(main())


def test_a_dead_letter_is_dropped_once(queue_harness: QueueHarness) -> None:
    async def main() -> None:
        async with opened(queue_harness) as queue:
            await settled(queue, Verdict.REJECT)
            (row,) = await queue.dead()
            assert [True, False] == [await queue.drop_dead(row.submission), await queue.drop_dead(row.submission)]
            assert ((), 0) == (await queue.dead(), await queue.depth())

    asyncio.run(main())


def test_pruning_deletes_dead_letters_of_that_age_and_nothing_else(queue_harness: QueueHarness) -> None:
    async def main() -> None:
        async with opened(queue_harness) as queue:
            for reason in ("old", "older", "new"):
                await settled(queue, Verdict.REJECT, reason=reason)
                await queue_harness.step()
            await settled(queue, Verdict.RETRY, after_s=queue_harness.delay_s)
            await queue.put(b"waits", job_id="b")
            assert 2 == await queue.prune(queue_harness.now() - 1.5 * queue_harness.step_s)
            assert ["new"] == [row.reason for row in await queue.dead()]
            await queue_harness.pass_time(queue_harness.delay_s + queue_harness.tick_s)
        async with opened(queue_harness) as queue:
            notes = [delivery.note for delivery in await drained(queue)]
            if "release in place" not in queue_harness.able:
                notes.sort(key=lambda note: -note.attempts)
            assert [NOTE, Note()] == notes, "the older one comes first"

    asyncio.run(main())


# Withdrawal


@pytest.mark.able("withdraw")
def test_a_waiting_message_is_withdrawn_by_its_jobs_id(queue_harness: QueueHarness) -> None:
    async def main() -> None:
        async with opened(queue_harness) as queue:
            for job_id in ("a", "b", "ab"):
                await queue.put(job_id.encode(), job_id=job_id)
            (delivery,) = await queue.withdraw("b")
            assert (b"b", ()) == (delivery.body, await queue.withdraw("b"))
            await acknowledge(queue, delivery)
            assert {b"a", b"ab"} == {delivery.body for delivery in await drained(queue)}

    asyncio.run(main())


@pytest.mark.able("withdraw")
@pytest.mark.parametrize("job_id", ["../../etc/passwd", "a b", "ü", "x" * 300, "a~b", "-", ".hidden"])
def test_an_id_of_any_kind_is_found(queue_harness: QueueHarness, job_id: str) -> None:
    async def main() -> None:
        async with opened(queue_harness) as queue:
            await queue.put(b"x", job_id=job_id)
            assert not await queue.withdraw("passwd")
            assert await queue.withdraw(job_id)
            assert await queue.fetch(0) is None

    asyncio.run(main())


@pytest.mark.able("withdraw")
def test_a_message_without_an_id_is_withdrawn_by_its_submission(queue_harness: QueueHarness) -> None:
    async def main() -> None:
        async with opened(queue_harness) as queue:
            submission = await queue.put(b"x", job_id="")
            assert not await queue.withdraw("")
            assert await queue.withdraw(submission)
            assert await queue.fetch(0) is None

    asyncio.run(main())


def test_a_claimed_message_is_not_withdrawn(queue_harness: QueueHarness) -> None:
    """The box that holds it is told to stop; its message is that box's to settle."""

    async def main() -> None:
        async with opened(queue_harness) as queue, opened(queue_harness, OTHER_BOX) as other:
            await queue.put(b"x", job_id="a")
            delivery = await fetched(queue)
            assert not await other.withdraw("a")
            await acknowledge(queue, delivery)

    asyncio.run(main())


@pytest.mark.able("withdraw")
def test_a_delayed_message_is_withdrawn(queue_harness: QueueHarness) -> None:
    async def main() -> None:
        async with opened(queue_harness) as queue:
            await settled(queue, Verdict.RETRY, after_s=queue_harness.delay_s)
            (delivery,) = await queue.withdraw("a")
            assert NOTE == delivery.note
            await acknowledge(queue, delivery)
            await queue_harness.pass_time(queue_harness.delay_s + queue_harness.tick_s)
        async with opened(queue_harness) as queue:
            assert await queue.fetch(0) is None

    asyncio.run(main())


@pytest.mark.able("withdraw")
def test_a_withdrawn_message_waits_again_unless_it_is_settled(queue_harness: QueueHarness) -> None:
    """Whoever withdrew it may be killed before its end is stored anywhere."""

    async def main() -> None:
        async with opened(queue_harness) as queue:
            await queue.put(b"x", job_id="a")
            (first,) = await queue.withdraw("a")
            assert await queue.fetch(0) is None
            await queue_harness.pass_time(queue_harness.lapsed_s)
        async with opened(queue_harness, OTHER_BOX) as queue:
            again = await fetched(queue)
            assert (first.body, first.submission) == (again.body, again.submission)
            await acknowledge(queue, again)

    asyncio.run(main())
