"""What every result backend tells of a job: its log and state changes to whoever follows, its receipt once."""

from __future__ import annotations

import asyncio

import pytest

from runner.errors import AlreadyStored
from runner.ports import Position
from tests.conformance.queue_harness import OTHER_BOX
from tests.conformance.results_harness import (
    AT,
    KEY,
    ResultsHarness,
    end,
    event,
    followed,
    line,
    receipt,
    sequences,
    told,
)

# The log


def test_nothing_is_known_of_a_job_that_never_was(results_harness: ResultsHarness) -> None:
    async def main() -> None:
        async with results_harness.open("") as results:
            assert ([], None, ()) == (await told(results), await results.get("a"), await results.list(ended=True))
            assert frozenset() == await results.stops()
            await results.clear_stop("a")
            assert 0 == await results.prune(AT)

    asyncio.run(main())


def test_records_and_events_come_back_whole_and_in_order(results_harness: ResultsHarness) -> None:
    """Between records by their time, and the end of the job last."""
    lines = [line(0, stream="runner"), line(1, data=b"\xff\x00\n" * 100), line(2, stream="stderr"), line(3)]
    started, storing = event("running", 0.5), event("storing", 2.5)

    async def main() -> None:
        async with results_harness.open() as results:
            await results.append(KEY, "a", (started,), lines[:2])
            await results.append(KEY, "a", (storing,), lines[2:])
            await results.append(KEY, "a", (end(2.7),), ())
            expected = [lines[0], started, lines[1], lines[2], storing, lines[3], end(2.7)]
            assert expected == await told(results)
            assert expected == await told(results, KEY), "a job is found by its key, too"

    asyncio.run(main())


def test_all_attempts_are_one_log(results_harness: ResultsHarness) -> None:
    async def main() -> None:
        async with results_harness.open() as results, results_harness.open(OTHER_BOX) as other:
            await results.append(KEY, "a", (), [line(0), line(1)])
            await other.append(KEY, "a", (end(5, attempt=2),), [line(0, attempt=2), line(1, attempt=2)])
            assert [(1, 0), (1, 1), (2, 0), (2, 1)] == sequences(await followed(results))

    asyncio.run(main())


def test_a_record_that_stands_is_not_added_twice(results_harness: ResultsHarness) -> None:
    """After a restart a runner sends a job's log from the beginning again."""
    lines = [line(number) for number in range(5)]

    async def main() -> None:
        async with results_harness.open() as results:
            await results.append(KEY, "a", (event("running", 0),), lines[:3])
            await results.append(KEY, "a", (event("running", 0),), lines[:3])
        async with results_harness.open() as results:
            await results.append(KEY, "a", (event("running", 0), end(9)), lines)
            await results.append(KEY, "a", (end(9),), lines[2:4])
            assert [event("running", 0), *lines, end(9)] == await told(results)

    asyncio.run(main())


def test_two_boxes_with_one_position_tell_it_once(results_harness: ResultsHarness) -> None:
    """A lease was lost while the log was on its way: both boxes ran the same attempt."""

    async def main() -> None:
        async with results_harness.open() as results, results_harness.open(OTHER_BOX) as other:
            await results.append(KEY, "a", (), [line(0), line(1)])
            await other.append(KEY, "a", (end(9),), [line(number) for number in range(4)])
            assert [(1, 0), (1, 1), (1, 2), (1, 3)] == sequences(await told(results))

    asyncio.run(main())


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (Position(1, 0), [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)]),
        (Position(1, 2), [(1, 2), (2, 0), (2, 1)]),
        (Position(1, 99), [(2, 0), (2, 1)]),
        (Position(2, 1), [(2, 1)]),
        (Position(9, 0), []),
    ],
)
def test_a_reader_goes_on_from_its_position(
    results_harness: ResultsHarness, position: Position, expected: list[tuple[int, int]]
) -> None:
    async def main() -> None:
        async with results_harness.open() as results:
            lines = [line(0), line(1), line(2), line(0, attempt=2), line(1, attempt=2)]
            await results.append(KEY, "a", (event("running", 0), end(9, attempt=2)), lines)
            items = await followed(results, position=position)
            assert (expected, end(9, attempt=2)) == (sequences(items), items[-1])

    asyncio.run(main())


def test_gaps_in_sequences_are_no_error(results_harness: ResultsHarness) -> None:
    async def main() -> None:
        async with results_harness.open() as results:
            await results.append(KEY, "a", (), [line(3), line(7)])
            await results.append(KEY, "a", (), [line(8)])
            assert [(1, 3), (1, 7), (1, 8)] == sequences(await told(results))

    asyncio.run(main())


def test_a_large_log_comes_whole(results_harness: ResultsHarness) -> None:
    """Records larger than what is read at once, and many of them."""
    lines = [
        line(number, data=bytes([number % 251]) * size) for number, size in enumerate([10, 3 << 20, 1, 500_000] * 3)
    ]

    async def main() -> None:
        async with results_harness.open() as results:
            for start in range(0, len(lines), 5):
                await results.append(KEY, "a", (), lines[start : start + 5])
            assert lines == await told(results)

    asyncio.run(main())


# Receipts


def test_a_receipt_is_stored_once_an_attempt(results_harness: ResultsHarness) -> None:
    """The box whose lease was lost must not replace what the winner stored."""

    async def main() -> None:
        async with results_harness.open() as results, results_harness.open(OTHER_BOX) as other:
            await results.put_receipt(receipt())
            with pytest.raises(AlreadyStored):
                await other.put_receipt(receipt(at=AT + 99))
            with pytest.raises(AlreadyStored):
                await results.put_receipt(receipt())
            assert receipt() == await other.get("a")

    asyncio.run(main())


def test_of_many_that_store_a_receipt_at_once_one_succeeds(results_harness: ResultsHarness) -> None:
    async def main() -> None:
        async with results_harness.open() as results, results_harness.open(OTHER_BOX) as other:
            puts = [box.put_receipt(receipt(at=AT + number)) for number in range(10) for box in (results, other)]
            outcomes = await asyncio.gather(*puts, return_exceptions=True)
            assert 1 == outcomes.count(None)
            assert 19 == sum(isinstance(outcome, AlreadyStored) for outcome in outcomes)
            stored = await results.get("a")
            assert stored is not None
            assert outcomes[2 * int((stored.ended_at or 0) - AT) :][:2].count(None) == 1, (
                "the one that was told so stands"
            )

    asyncio.run(main())


def test_the_newest_receipt_is_that_of_the_last_attempt(results_harness: ResultsHarness) -> None:
    async def main() -> None:
        async with results_harness.open() as results:
            for attempt in (1, 2, 10):
                await results.put_receipt(receipt(attempt=attempt, state="waiting" if attempt < 10 else "ended"))
            assert receipt(attempt=10) == await results.get("a")

    asyncio.run(main())
