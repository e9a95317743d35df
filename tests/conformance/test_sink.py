"""What every sink keeps: records and events in order, each once where the place can know, any bytes; one end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import cast

import pytest

from runner.errors import Unavailable
from runner.ports import End, LogLine, Position
from runner.receipt import Event
from tests.conformance.file_sink_harness import JsonFileHarness, OneJsonFileHarness, TextFileHarness
from tests.conformance.journal_sink_harness import JournalHarness
from tests.conformance.redis_sink_harness import RedisBothHarness, RedisChannelHarness, RedisStreamHarness
from tests.conformance.sink_harness import KEY, OTHER, Harness, RedisResultsHarness, ResultsHarness, Run, runs
from tests.conformance.syslog_harness import SyslogHarness, SyslogHostHarness

LINES = tuple(
    LogLine(attempt, sequence, 0, "stdout", b"x%d\n" % sequence) for attempt in (1, 2) for sequence in range(3)
)
RUNNING = Event(KEY, "digits", 1.0, "running")
END = End(Event(KEY, "digits", 2.0, "ended", 2, "done", "succeeded", 0))
ANY_BYTES = tuple(
    LogLine(1, sequence, 0, stream, data)
    for sequence, (stream, data) in enumerate(
        (
            ("stdout", bytes(range(256))),
            ("stderr", b"\xff" * 200_000 + b"\n"),
            ("stdout", "ü\u2028\x1b[31m".encode() + b"\r\n"),
            ("stdout", b"\x00"),
            ("stderr", b'no end: "\\'),
            ("gap", b'{"bytes":12,"lines":null}'),
            ("gap", b'{"bytes":13,"lines":null}'),
        )
    )
)
HARNESSES = [
    pytest.param(ResultsHarness, id="results"),
    pytest.param(RedisResultsHarness, id="redis results", marks=pytest.mark.broker),
    pytest.param(JsonFileHarness, id="json file"),
    pytest.param(OneJsonFileHarness, id="one json file"),
    pytest.param(TextFileHarness, id="text file"),
    pytest.param(SyslogHarness, id="syslog", marks=pytest.mark.integration),
    pytest.param(SyslogHostHarness, id="syslog by UDP", marks=pytest.mark.integration),
    pytest.param(JournalHarness, id="journald", marks=pytest.mark.integration),
    pytest.param(RedisStreamHarness, id="redis stream", marks=pytest.mark.broker),
    pytest.param(RedisChannelHarness, id="redis channel", marks=pytest.mark.broker),
    pytest.param(RedisBothHarness, id="redis both", marks=pytest.mark.broker),
]


@pytest.fixture(params=HARNESSES)
def harness(request: pytest.FixtureRequest) -> Harness:
    return cast("Harness", request.param())


def expected(harness: Harness, lines: Iterable[LogLine]) -> list[Run]:
    """Return what should be seen of these records."""
    return runs(map(harness.as_told, lines))


def within(harness: Harness, main: Callable[[], Awaitable[None]]) -> None:
    """Run a test while the place stands."""

    async def whole() -> None:
        async with harness.ready():
            await main()

    asyncio.run(whole())


def test_records_and_events_arrive_in_order(harness: Harness) -> None:
    """The first position that a sink wants is the one after the last that it took."""

    async def main() -> None:
        sink = harness.open()
        assert await sink.open(KEY, "digits") in ({Position()} if harness.knows else {None})
        await sink.write(KEY, "digits", [RUNNING], LINES[:2])
        await sink.write(KEY, "digits", [], LINES[2:])
        assert await sink.open(KEY, "digits") == (Position(2, 3) if harness.knows else None)
        assert runs(harness.lines(KEY)) == expected(harness, LINES)
        assert harness.events(KEY) == ([harness.event_as_told(RUNNING)] if harness.tells_events else [])

    within(harness, main)


def test_any_bytes_arrive(harness: Harness) -> None:
    """What is not text, what is larger than a message, and what stands alone."""

    async def main() -> None:
        sink = harness.open()
        await sink.write(KEY, "digits", [], ANY_BYTES)
        assert runs(harness.lines(KEY)) == expected(harness, ANY_BYTES)

    within(harness, main)


def test_what_is_sent_again_arrives_once(harness: Harness) -> None:
    """After a restart, or after a failure in the middle, the same records come again; cut elsewhere than before."""

    async def main() -> None:
        for sink in (harness.open(), harness.open()) if harness.knows else (harness.open(),):
            await sink.open(KEY, "digits")
            await sink.write(KEY, "digits", [], LINES[:4])
            await sink.write(KEY, "digits", [], LINES[2:])
        assert runs(harness.lines(KEY)) == expected(harness, LINES)

    within(harness, main)


def test_a_failed_write_is_wanted_again(harness: Harness) -> None:
    """A place that is away for a while gets everything when it is back."""

    async def main() -> None:
        sink = harness.open()
        await sink.write(KEY, "digits", [], LINES[:2])
        harness.break_down(broken=True)
        with pytest.raises(Unavailable):
            await sink.write(KEY, "digits", [], LINES[2:])
        with pytest.raises(Unavailable):
            await sink.close(KEY, "digits", END)
        harness.break_down(broken=False)
        assert await sink.open(KEY, "digits") == (Position(1, 2) if harness.knows else None)
        await sink.write(KEY, "digits", [], LINES[2:])
        await sink.close(KEY, "digits", END)
        assert runs(harness.lines(KEY)) == expected(harness, LINES)
        assert harness.events(KEY) == [harness.event_as_told(END.event)]

    within(harness, main)


def test_the_end_is_told_once(harness: Harness) -> None:
    """Clients stop at the end; a second one would be another job's."""

    async def main() -> None:
        sink = harness.open()
        await sink.write(KEY, "digits", [], LINES)
        await sink.close(KEY, "digits", END)
        await sink.close(KEY, "digits", END)
        assert harness.events(KEY) == [harness.event_as_told(END.event)]

    within(harness, main)


def test_jobs_do_not_mix(harness: Harness) -> None:
    """One sink serves all jobs of its queue."""

    async def main() -> None:
        sink = harness.open()
        await sink.write(KEY, "digits", [], LINES)
        assert await sink.open(OTHER, "other") == (Position() if harness.knows else None)
        await sink.write(OTHER, "other", [], LINES[:1])
        await sink.close(OTHER, "other", End(Event(OTHER, "other", 2.0, "ended")))
        assert runs(harness.lines(KEY)) == expected(harness, LINES)
        assert runs(harness.lines(OTHER)) == expected(harness, LINES[:1])
        assert harness.events(KEY) == []

    within(harness, main)


def test_a_sink_is_released_in_the_middle(harness: Harness) -> None:
    """Nothing of what it took is lost."""

    async def main() -> None:
        sink = harness.open()
        await sink.write(KEY, "digits", [], LINES)
        await sink.release()
        assert runs(harness.lines(KEY)) == expected(harness, LINES)

    within(harness, main)
