"""What the conformance suite of sinks needs to know of a place that logs go to, and what stands behind result sinks."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import groupby
from typing import Protocol, cast

from adapters.registry import dialects
from adapters.results.redis import RedisResults
from adapters.sinks.log_text import event_text, shown
from adapters.sinks.opening import open_sinks
from adapters.sinks.results import ResultsSink
from adapters.sinks.urls import sink_url
from runner.credential import Credential, Rights
from runner.errors import Unavailable
from runner.job import Key
from runner.ports import LogLine, Position, Results, Sink
from runner.receipt import Event
from tests.conformance.queue_harness import BOX, QUEUE
from tests.conformance.records import key_of
from tests.conformance.redis_harness import redis_url

KEY, OTHER = key_of("digits"), key_of("other")
IDS = {KEY: "digits", OTHER: "other"}


class Harness(Protocol):
    """One place that sinks write to: opens sinks to it, and tells what arrived there."""

    knows: bool
    """Whether the place itself knows what it has, so that nothing arrives twice even after a restart."""
    tells_events: bool
    """Whether state changes before the end arrive, too."""

    def ready(self) -> AbstractAsyncContextManager[None]:
        """Set the place up, for as long as the context lasts."""
        ...

    def open(self) -> Sink: ...

    def lines(self, key: Key) -> list[LogLine]: ...

    def events(self, key: Key) -> list[Event]: ...

    def break_down(self, *, broken: bool) -> None: ...

    def as_told(self, line: LogLine) -> LogLine:
        """Return what one can see there of a record."""
        ...

    def event_as_told(self, event: Event) -> Event:
        """Return what one can see there of a state change."""
        ...


class Faithful:
    """A place that shows all of a record and of a state change."""

    def as_told(self, line: LogLine) -> LogLine:
        return line

    def event_as_told(self, event: Event) -> Event:
        return event


Run = tuple[int, str, int, bytes]


def runs(lines: Iterable[LogLine]) -> list[Run]:
    """Put together what one attempt wrote to one stream, as sinks may do: with the last position and all data."""
    found = [list(group) for _, group in groupby(lines, lambda line: (line.attempt, line.stream))]
    return [(run[0].attempt, run[0].stream, run[-1].sequence, b"".join(line.data for line in run)) for run in found]


def as_text(line: LogLine) -> LogLine:
    """Return what a text for people shows of a record: lines without bytes that do harm, and no position."""
    return LogLine(0, 0, 0, line.stream, shown(line).removesuffix("\n").encode() + b"\n")


def event_as_text(event: Event) -> Event:
    """Return what a text for people shows of a state change."""
    return Event("", "", 0.0, event_text(event))


def told_as_text(stream: str, text: str) -> LogLine | Event:
    """Return one line of such a text."""
    return Event("", "", 0.0, text) if stream == "event" else LogLine(0, 0, 0, stream, f"{text}\n".encode())


class OpenedByUrl(Faithful):
    """Opens sinks as a credential file does, and releases them."""

    def __init__(self) -> None:
        self._opened: list[Sink] = []

    def opened(self, url: str) -> Sink:
        credential = Credential("folder", "folder:///queue", Rights(sinks=(sink_url(url).url,)))
        (sink,) = open_sinks((), dialects(), credential, QUEUE, None).values()
        self._opened.append(sink)
        return sink

    async def release(self) -> None:
        for sink in self._opened:
            await sink.release()


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


class ResultsHarness(Faithful):
    knows = tells_events = True

    def __init__(self) -> None:
        self._results = RecordedResults()

    @asynccontextmanager
    async def ready(self) -> AsyncIterator[None]:
        yield

    def open(self) -> Sink:
        return ResultsSink(cast("Results", self._results))

    def lines(self, key: Key) -> list[LogLine]:
        return list(self._results.lines[key].values())

    def events(self, key: Key) -> list[Event]:
        return self._results.events[key]

    def break_down(self, *, broken: bool) -> None:
        self._results.broken = broken


class RedisResultsHarness(Faithful):
    """A Redis by way of an address where nothing answers while it is broken; connected for each call alone."""

    knows = tells_events = True

    def __init__(self) -> None:
        self._url = redis_url()
        self._broken = False

    @asynccontextmanager
    async def ready(self) -> AsyncIterator[None]:
        yield

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
