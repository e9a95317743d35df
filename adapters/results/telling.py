"""
The order in which a result backend tells a reader what it has of one job.

Within an attempt records go by their sequence, and an event goes before the first record that is younger. What ends
the job for good goes last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from adapters.results.rows import is_final
from runner.ports import LogLine, Position
from runner.receipt import Event

OUTPUT = frozenset({"stdout", "stderr"})
"""The job's own streams; of several boxes that had one attempt, one alone speaks in them."""


class Telling:
    """What was told to one reader, who wants what follows ``position``, and what is still to be told."""

    def __init__(self, position: Position) -> None:
        self._position = position
        # What follows the last record seen, and what was heard but not told yet.
        self._next = Position()
        self._pending: list[Event] = []
        self._heard: set[Event] = set()
        self.ended = False

    def hear(self, events: Iterable[Event]) -> None:
        """Take in events, each once, whichever box told it."""
        new = [event for event in dict.fromkeys(events) if event not in self._heard]
        self._heard.update(new)
        self._pending += new
        self._pending.sort(key=lambda event: (is_final(event), event.attempt, event.at))

    def merged(self, lines: Iterable[LogLine]) -> Iterator[LogLine | Event]:
        """Yield the next records, with the events that go before them."""
        for line in lines:
            while self._pending and _goes_before(self._pending[0], line):
                yield from self._wanted(self._pending.pop(0))
            self._next = max(self._next, line.next)
            if Position(line.attempt, line.sequence) >= self._position:
                yield line

    def rest(self) -> Iterator[Event]:
        """Yield the events that no record follows yet; ``ended`` tells afterwards that the end was among them."""
        while self._pending:
            event = self._pending.pop(0)
            self.ended = is_final(event)
            yield from self._wanted(event)

    def _wanted(self, event: Event) -> Iterator[Event]:
        """Leave out what was told before the position asked for, but never the end."""
        here = self._next if self._next.attempt == event.attempt else Position(event.attempt)
        if is_final(event) or here >= self._position:
            yield event


def _goes_before(event: Event, line: LogLine) -> bool:
    if is_final(event) or event.attempt > line.attempt:
        return False
    return event.attempt < line.attempt or event.at * 1e9 <= line.at_ns
