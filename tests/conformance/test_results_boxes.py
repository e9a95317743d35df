"""One attempt, two boxes: a claim lapsed or went back, and the log says what counts, in every result backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from runner.ports import LogLine, Position, Results
from runner.receipt import Receipt
from tests.conformance.results_harness import KEY, LONG_S, ResultsHarness, end, told


def line(sequence: int, at_ns: int, data: bytes, stream: str = "stdout") -> LogLine:
    return LogLine(1, sequence, at_ns, stream, data)


@dataclass(frozen=True)
class Boxes:
    """Two writers of one job, and what a reader sees of it."""

    first: Results
    second: Results
    reader: Results

    async def told(self) -> list[bytes]:
        return [item.data for item in await told(self.reader) if isinstance(item, LogLine)]


@asynccontextmanager
async def two_boxes(harness: ResultsHarness) -> AsyncIterator[Boxes]:
    async with harness.open("box-1") as first, harness.open("box-2") as second, harness.open("") as reader:
        yield Boxes(first, second, reader)


async def write(results: Results, *lines: LogLine) -> None:
    await results.append(KEY, "a", (), lines)


def test_the_box_that_began_last_speaks_until_there_is_a_receipt(results_harness: ResultsHarness) -> None:
    """The other one lost its claim: a line of each would be nobody's log."""

    async def main() -> None:
        async with two_boxes(results_harness) as it:
            await write(it.second, line(0, 50, b"second 1"), line(1, 60, b"second 2"))
            await write(it.first, line(0, 10, b"first 1"), line(1, 20, b"first 2"), line(2, 70, b"first 3"))
            assert [b"second 1", b"second 2"] == await it.told()
            await it.first.put_receipt(Receipt("a", state="ended", box="box-1", key=KEY))
            assert [b"first 1", b"first 2", b"first 3"] == await it.told()

    asyncio.run(main())


def test_what_runners_said_is_told_of_all_boxes(results_harness: ResultsHarness) -> None:
    """One gave the job back: its reason stands before what the next one did, and none of its lines hides another's."""

    async def main() -> None:
        async with two_boxes(results_harness) as it:
            given_back = [line(number, 10 + number, b"given back %d" % number, "runner") for number in range(3)]
            await write(it.first, *given_back)
            await write(it.second, line(0, 50, b"1"), line(1, 51, b"2"))
            assert [b"given back 0", b"given back 1", b"given back 2", b"1", b"2"] == await it.told()

    asyncio.run(main())


def test_a_receipt_without_a_box_decides_nothing(results_harness: ResultsHarness) -> None:
    """Whoever withdraws a waiting job has no log."""

    async def main() -> None:
        async with two_boxes(results_harness) as it:
            await write(it.first, line(0, 10, b"first"))
            await write(it.second, line(0, 50, b"second"))
            await it.first.put_receipt(Receipt("a", state="ended", key=KEY))
            assert [b"second"] == await it.told()

    asyncio.run(main())


def test_a_follower_goes_over_to_the_box_that_took_the_job_up(results_harness: ResultsHarness) -> None:
    """From its first line, to the end, which is told once."""

    async def main() -> None:
        async with two_boxes(results_harness) as it, asyncio.timeout(LONG_S):
            await write(it.first, line(0, 10, b"first 1"))
            following = it.reader.tail("a", Position(), follow=True)
            assert line(0, 10, b"first 1") == await anext(following)
            await write(it.second, line(0, 50, b"second 1"))
            await write(it.first, line(1, 60, b"first 2"))
            await write(it.second, line(1, 61, b"second 2"))
            await it.second.put_receipt(Receipt("a", state="ended", box="box-2", key=KEY))
            await it.second.append(KEY, "a", (end(1),), ())
            rest = [item async for item in following]
            assert [b"second 1", b"second 2"] == [item.data for item in rest if isinstance(item, LogLine)]
            assert end(1) == rest[-1]

    asyncio.run(main())
