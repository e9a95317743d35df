"""The sink that feeds a queue's result backend, where clients read what became of their jobs."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.sinks.remembered import Remembered
from runner.job import Key
from runner.ports import End, LogLine, Position, Results, SinkTraits
from runner.receipt import Event


class ResultsSink:
    """
    Hands events and records on to a result backend.

    One serves all jobs of a backend and remembers how far each got in this life of the runner. After a restart a job is
    sent from its beginning, since a backend drops what stands there already.
    """

    def __init__(self, results: Results) -> None:
        self._results = results
        # The next record wanted of the jobs that were fed last; dropped at a job's end.
        self._wanted: Remembered[Position] = Remembered()
        # The ends told last, so that none is told twice.
        self._ended: Remembered[End] = Remembered()

    @property
    def traits(self) -> SinkTraits:
        return SinkTraits()

    async def open(self, key: Key, job_id: str) -> Position:  # noqa: ARG002 - the port's signature
        return self._wanted.get(key) or Position()

    async def write(self, key: Key, job_id: str, events: Sequence[Event], lines: Sequence[LogLine]) -> None:
        wanted = self._wanted.get(key) or Position()
        new = [line for line in lines if Position(line.attempt, line.sequence) >= wanted]
        if events or new:
            await self._results.append(key, job_id, events, new)
        if new:
            self._wanted.set(key, new[-1].next)

    async def close(self, key: Key, job_id: str, end: End) -> None:
        if self._ended.get(key) != end:
            await self._results.append(key, job_id, (end.event,), ())
        self._ended.set(key, end)
        self._wanted.forget(key)

    async def release(self) -> None:
        """Let go of nothing: the backend belongs to whoever opened it."""
