"""Logs in files on this disk; broken means that something else stands in the file's place."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from runner.job import Key
from runner.ports import LogLine, Sink
from runner.receipt import Event
from tests.conformance.redis_sink_harness import told
from tests.conformance.sink_harness import IDS, OpenedByUrl, as_text, event_as_text, told_as_text


class JsonFileHarness(OpenedByUrl):
    """A file for every job."""

    knows = tells_events = True
    name = "{queue}/{key}.log"
    form = "json"

    @asynccontextmanager
    async def ready(self) -> AsyncIterator[None]:
        with tempfile.TemporaryDirectory() as self._directory:
            yield
            await self.release()

    def open(self) -> Sink:
        return self.opened(f"file://{self._directory}/logs/{self.name}?format={self.form}")

    def lines(self, key: Key) -> list[LogLine]:
        return [item for item in self._told(key) if isinstance(item, LogLine)]

    def events(self, key: Key) -> list[Event]:
        return [item for item in self._told(key) if isinstance(item, Event)]

    def break_down(self, *, broken: bool) -> None:
        whole, aside = Path(self._directory, "logs"), Path(self._directory, "aside")
        if broken:
            whole.rename(aside)
            whole.symlink_to("/proc/nowhere")
        else:
            whole.unlink()
            aside.rename(whole)

    def _told(self, key: Key) -> list[LogLine | Event]:
        return [told(line) for line in self._documents(self.name.format(queue="train", key=key))]

    def _documents(self, name: str) -> list[bytes]:
        file = Path(self._directory, "logs", name)
        return file.read_bytes().removesuffix(b"\n").split(b"\n") if file.exists() else []


class OneJsonFileHarness(JsonFileHarness):
    """One file for all jobs, each record with its job's id."""

    knows = False
    name = "all.log"

    def _told(self, key: Key) -> list[LogLine | Event]:
        return [told(line) for line in self._documents(self.name) if msgspec.json.decode(line)["id"] == IDS[key]]


class TextFileHarness(JsonFileHarness):
    """A file for every job, for people: neither positions nor all of a state change can be read."""

    knows = False
    name = "{key}.log"
    form = "text"

    def as_told(self, line: LogLine) -> LogLine:
        return as_text(line)

    def event_as_told(self, event: Event) -> Event:
        return event_as_text(event)

    def _told(self, key: Key) -> list[LogLine | Event]:
        told = [line.decode().split(" ", 2) for line in self._documents(self.name.format(key=key))]
        return [told_as_text(stream, text) for _, stream, text in told]
