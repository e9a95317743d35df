"""What every sink keeps: records and events in order, each once, however often they are sent; one end."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, cast

import pytest

from adapters.results.redis import RedisResults
from adapters.sinks.results import ResultsSink
from runner.errors import Unavailable
from runner.job import Key
from runner.ports import End, LogLine, Position, Results, Sink
from runner.receipt import Event
from tests.conformance.queue_harness import BOX, QUEUE
from tests.conformance.records import key_of
from tests.conformance.redis_harness import redis_url

KEY, OTHER = key_of("digits"), key_of("other")
LINES = tuple(LogLine(attempt, sequence, 0, "stdout", b"x") for attempt in (1, 2) for sequence in range(3))
RUNNING = Event(KEY, "digits", 1.0, "running")
END = End(Event(KEY, "digits", 2.0, "ended", 2, "done", "succeeded", 0))


class Harness(Protocol):
    """One place that a sink writes to: opens sinks to it, and tells what arrived there."""

    def open(self) -> Sink: ...

    def lines(self, key: Key) -> list[LogLine]: ...

    def events(self, key: Key) -> list[Event]: ...

    def break_down(self, *, broken: bool) -> None: ...


class RecordedResults:
    """The one method of a result backend that a sink needs; drops records that stand already, as all of them do."""

    def __init__(self) -> None:
        self.broken = False
        self.lines: dict[Key, dict[Position, LogLine]] = defaultdict(dict)
        self.events: dict[Key, list[Event]] = defaultdict(list)

    async def append(self, key: Key, job_id: str, events: Sequence[Event], lines: Sequence[LogLine]) -> None:
        if self.broken:
            raise Unavailable("the result backend does not answer")
        self.events[key].extend(events)
        for line in lines:
            self.lines[key].setdefault(Position(line.attempt, line.sequence), line)


class ResultsHarness:
    def __init__(self) -> None:
        self._results = RecordedResults()

    def open(self) -> Sink:
        return ResultsSink(cast("Results", self._results))

    def lines(self, key: Key) -> list[LogLine]:
        return list(self._results.lines[key].values())

    def events(self, key: Key) -> list[Event]:
        return self._results.events[key]

    def break_down(self, *, broken: bool) -> None:
        self._results.broken = broken


class RedisHarness:
    """A Redis by way of an address where nothing answers while it is broken; connected for each call alone."""

    def __init__(self) -> None:
        self._url = redis_url()
        self._broken = False

    def open(self) -> Sink:
        return ResultsSink(cast("Results", self))

    async def append(self, key: Key, job_id: str, events: Sequence[Event], lines: Sequence[LogLine]) -> None:
        results = RedisResults("redis://127.0.0.1:1" if self._broken else self._url, QUEUE, box_id=BOX)
        try:
            await results.append(key, job_id, events, lines)
        finally:
            await results.close()

    def lines(self, key: Key) -> list[LogLine]:
        return [item for item in self._told(key) if isinstance(item, LogLine)]

    def events(self, key: Key) -> list[Event]:
        return [item for item in self._told(key) if isinstance(item, Event)]

    def break_down(self, *, broken: bool) -> None:
        self._broken = broken

    def _told(self, key: Key) -> list[LogLine | Event]:
        with ThreadPoolExecutor(1) as beside:
            return beside.submit(asyncio.run, self._read(key)).result()

    async def _read(self, key: Key) -> list[LogLine | Event]:
        results = RedisResults(self._url, QUEUE)
        try:
            return [item async for item in results.tail(key, Position(), follow=False)]
        finally:
            await results.close()


@pytest.fixture(params=[ResultsHarness, pytest.param(RedisHarness, marks=pytest.mark.broker)], ids=["results", "redis"])
def harness(request: pytest.FixtureRequest) -> Harness:
    make: Callable[[], Harness] = request.param
    return make()


def test_records_and_events_arrive_in_order(harness: Harness) -> None:
    """The first position that a sink wants is the one after the last that it took."""

    async def main() -> None:
        sink = harness.open()
        assert await sink.open(KEY, "digits") == Position()
        await sink.write(KEY, "digits", [RUNNING], LINES[:2])
        await sink.write(KEY, "digits", [], LINES[2:])
        assert await sink.open(KEY, "digits") == Position(2, 3)
        assert harness.lines(KEY) == list(LINES)
        assert harness.events(KEY) == [RUNNING]

    asyncio.run(main())


def test_what_is_sent_again_arrives_once(harness: Harness) -> None:
    """After a restart, or after a failure in the middle, the same records come again."""

    async def main() -> None:
        for sink in (harness.open(), harness.open()):
            await sink.open(KEY, "digits")
            await sink.write(KEY, "digits", [], LINES[:4])
            await sink.write(KEY, "digits", [], LINES[2:])
        assert harness.lines(KEY) == list(LINES)

    asyncio.run(main())


def test_a_failed_write_is_wanted_again(harness: Harness) -> None:
    """A place that is away for a while gets everything when it is back."""

    async def main() -> None:
        sink = harness.open()
        await sink.write(KEY, "digits", [], LINES[:2])
        harness.break_down(broken=True)
        with pytest.raises(Unavailable):
            await sink.write(KEY, "digits", [], LINES[2:])
        assert await sink.open(KEY, "digits") == Position(1, 2)
        with pytest.raises(Unavailable):
            await sink.close(KEY, "digits", END)
        harness.break_down(broken=False)
        await sink.write(KEY, "digits", [], LINES[2:])
        await sink.close(KEY, "digits", END)
        assert harness.lines(KEY) == list(LINES)
        assert harness.events(KEY) == [END.event]

    asyncio.run(main())


def test_the_end_is_told_once(harness: Harness) -> None:
    """Clients stop at the end; a second one would be another job's."""

    async def main() -> None:
        sink = harness.open()
        await sink.write(KEY, "digits", [RUNNING], LINES)
        await sink.close(KEY, "digits", END)
        await sink.close(KEY, "digits", END)
        assert harness.events(KEY) == [RUNNING, END.event]

    asyncio.run(main())


def test_jobs_do_not_mix(harness: Harness) -> None:
    """One sink serves all jobs of its queue."""

    async def main() -> None:
        sink = harness.open()
        await sink.write(KEY, "digits", [], LINES)
        assert await sink.open(OTHER, "other") == Position()
        await sink.write(OTHER, "other", [], LINES[:1])
        await sink.close(OTHER, "other", End(Event(OTHER, "other", 2.0, "ended")))
        assert (len(harness.lines(KEY)), len(harness.lines(OTHER))) == (6, 1)
        assert harness.events(KEY) == []

    asyncio.run(main())
