"""The sink that feeds a queue's result backend, where clients read what became of their jobs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from runner.job import Key
from runner.ports import End, LogLine, Position, Results
from runner.receipt import Event

ENDED_MAX = 1024


class ResultsSink:
    """
    Hands events and records on to a result backend.

    Remembers how far each job got in this life of the runner. After a restart a job is sent from its beginning, since a
    backend drops what stands there already.
    """

    def __init__(self, results: Results) -> None:
        self._results = results
        # The next record wanted, by job; dropped at its end.
        self._wanted: dict[Key, Position] = {}
        # The newest jobs whose end was told, so that it is not told twice.
        self._ended: OrderedDict[Key, End] = OrderedDict()

    async def open(self, key: Key, job_id: str) -> Position:  # noqa: ARG002 - the port's signature
        return self._wanted.setdefault(key, Position())

    async def write(self, key: Key, job_id: str, events: Sequence[Event], lines: Sequence[LogLine]) -> None:
        wanted = self._wanted.get(key, Position())
        new = [line for line in lines if Position(line.attempt, line.sequence) >= wanted]
        if events or new:
            await self._results.append(key, job_id, events, new)
        if new:
            self._wanted[key] = Position(new[-1].attempt, new[-1].sequence + 1)

    async def close(self, key: Key, job_id: str, end: End) -> None:
        if self._ended.get(key) != end:
            await self._results.append(key, job_id, (end.event,), ())
        self._ended[key] = end
        self._wanted.pop(key, None)
        if len(self._ended) > ENDED_MAX:
            self._ended.popitem(last=False)
