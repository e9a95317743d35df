"""Logs as datagrams to syslog or the systemd journal: at least once, and lost where the receiver drops what it got."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Protocol

from adapters.sinks.datagrams import Datagrams
from adapters.sinks.remembered import Remembered
from adapters.worker import Worker
from runner.errors import Unavailable
from runner.job import Key
from runner.ports import End, LogLine, Position, SinkTraits
from runner.receipt import Event


class Form(Protocol):
    """How records and state changes are written."""

    def line(self, line: LogLine, key: Key, job_id: str) -> Iterator[bytes]:
        """Yield the datagrams of one record."""
        ...

    def event(self, event: Event, key: Key, job_id: str) -> Iterator[bytes]:
        """Yield the datagrams of a state change."""
        ...

    def joined(self, lines: list[LogLine]) -> Iterator[LogLine]:
        """Put together the records that are told as one."""
        ...


class DatagramSink:
    """The logs of all jobs of one queue; in this life of the runner nothing is sent twice, also after a failure."""

    def __init__(self, datagrams: Datagrams, form: Form, lag_max_bytes: int | None = None) -> None:
        self._datagrams = datagrams
        self._form = form
        self._traits = SinkTraits(coalesces=True, lag_max_bytes=lag_max_bytes)
        # A thread of its own: one that hangs must not keep those of all others.
        self._calls = Worker("datagrams")
        self._wanted: Remembered[Position] = Remembered()
        self._ended: Remembered[End] = Remembered()

    @property
    def traits(self) -> SinkTraits:
        return self._traits

    async def open(self, key: Key, job_id: str) -> Position | None:  # noqa: ARG002 - nobody tells
        return None

    async def write(self, key: Key, job_id: str, events: Sequence[Event], lines: Sequence[LogLine]) -> None:
        await self._calls.run(self._write, key, job_id, events, lines)

    async def close(self, key: Key, job_id: str, end: End) -> None:
        if self._ended.get(key) != end:
            await self._calls.run(self._write, key, job_id, (end.event,), ())
        self._ended.set(key, end)
        self._wanted.forget(key)

    async def release(self) -> None:
        with suppress(Unavailable):  # released before
            self._calls.submit(self._datagrams.close)
        self._calls.shutdown()

    def _write(self, key: Key, job_id: str, events: Sequence[Event], lines: Sequence[LogLine]) -> None:
        wanted = self._wanted.get(key) or Position()
        new = [line for line in lines if Position(line.attempt, line.sequence) >= wanted]
        for event in events:
            self._send(self._form.event(event, key, job_id))
        for line in self._form.joined(new):
            self._send(self._form.line(line, key, job_id))
            self._wanted.set(key, line.next)

    def _send(self, datagrams: Iterator[bytes]) -> None:
        for data in datagrams:
            self._datagrams.send(data)
