"""The sink that feeds a queue's result backend, where clients read what became of their jobs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TypeVar

from runner.job import Key
from runner.ports import End, LogLine, Position, Results, SinkTraits
from runner.receipt import Event

T = TypeVar("T")
REMEMBERED_MAX = 1024


class ResultsSink:
    """
    Hands events and records on to a result backend.

    One serves all jobs of a backend and remembers how far each got in this life of the runner. After a restart a job is
    sent from its beginning, since a backend drops what stands there already.
    """

    def __init__(self, results: Results) -> None:
        self._results = results
        # The next record wanted of the jobs that were fed last; dropped at a job's end.
        self._wanted: OrderedDict[Key, Position] = OrderedDict()
        # The ends told last, so that none is told twice.
        self._ended: OrderedDict[Key, End] = OrderedDict()

    @property
    def traits(self) -> SinkTraits:
        return SinkTraits()

    async def open(self, key: Key, job_id: str) -> Position:  # noqa: ARG002 - the port's signature
        return self._wanted.get(key, Position())

    async def write(self, key: Key, job_id: str, events: Sequence[Event], lines: Sequence[LogLine]) -> None:
        wanted = self._wanted.get(key, Position())
        new = [line for line in lines if Position(line.attempt, line.sequence) >= wanted]
        if events or new:
            await self._results.append(key, job_id, events, new)
        if new:
            _keep(self._wanted, key, Position(new[-1].attempt, new[-1].sequence + 1))

    async def close(self, key: Key, job_id: str, end: End) -> None:
        if self._ended.get(key) != end:
            await self._results.append(key, job_id, (end.event,), ())
        _keep(self._ended, key, end)
        self._wanted.pop(key, None)

    async def release(self) -> None:
        """Let go of nothing: the backend belongs to whoever opened it."""


def _keep(kept: OrderedDict[Key, T], key: Key, value: T) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > REMEMBERED_MAX:
        kept.popitem(last=False)
