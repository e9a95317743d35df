"""A real systemd-journald: an instance of its own, whose /run is a directory of ours."""

from __future__ import annotations

import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters.sinks.log_text import shown
from runner.job import Key
from runner.ports import LogLine, Sink
from runner.receipt import Event
from tests.conformance.log_daemon import LogDaemon, await_true, needed
from tests.conformance.sink_harness import KEY, OpenedByUrl, event_as_text

JOURNALD = Path("/usr/lib/systemd/systemd-journald")
SCRIPT = 'mount --bind "$0" /run && exec "$1" test'
SETTINGS = "[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\nMaxLevelKMsg=emerg\nForwardToWall=no\n"


class JournalHarness(OpenedByUrl):
    """What arrived is read by ``journalctl``."""

    knows = False
    tells_events = True

    def __init__(self) -> None:
        super().__init__()
        needed("journalctl", "unshare")
        if not JOURNALD.exists():
            pytest.skip("systemd-journald is not installed")
        self._marks = 0

    @asynccontextmanager
    async def ready(self) -> AsyncIterator[None]:
        with tempfile.TemporaryDirectory() as name:
            self._run = Path(name)
            settings = self._run / "systemd/journald@test.conf.d/test.conf"
            settings.parent.mkdir(parents=True)
            settings.write_text(SETTINGS)
            (self._run / "log/journal").mkdir(parents=True)
            runtime = self._run / "systemd/journal.test"
            self._socket = runtime / "socket"
            command = ("unshare", "--mount", "--propagation", "private", "sh", "-c", SCRIPT, name, str(JOURNALD))
            self._daemon = LogDaemon(command, self._run / "output", self._socket.exists, runtime)
            self._daemon.start()
            try:
                yield
            finally:
                await self.release()
                self._daemon.stop()

    def open(self) -> Sink:
        return self.opened(f"journald://{self._socket}")

    def lines(self, key: Key) -> list[LogLine]:
        return [_line(entry) for entry in self._entries(key) if entry["RUNNER_STREAM"] != "event"]

    def events(self, key: Key) -> list[Event]:
        return [
            Event("", "", 0.0, entry["MESSAGE"]) for entry in self._entries(key) if entry["RUNNER_STREAM"] == "event"
        ]

    def break_down(self, *, broken: bool) -> None:
        if broken:
            self._entries(KEY)  # what is not read yet would be lost with it
            self._daemon.stop()
        else:
            self._daemon.start()

    def as_told(self, line: LogLine) -> LogLine:
        data = shown(line).encode() if line.stream == "gap" else line.data
        return LogLine(line.attempt, line.sequence, 0, line.stream, data.removesuffix(b"\n") + b"\n")

    def event_as_told(self, event: Event) -> Event:
        return event_as_text(event)

    def _entries(self, key: Key) -> list[dict[str, Any]]:
        self._marks += 1
        mark = f"mark {self._marks}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(f"MESSAGE={mark}\n".encode(), str(self._socket))
        found: list[dict[str, Any]] = []

        def arrived() -> bool:
            found[:] = self._read()
            return any(entry["MESSAGE"] == mark for entry in found)

        await_true(arrived)
        return [entry for entry in found if entry.get("RUNNER_KEY") == key]

    def _read(self) -> list[dict[str, Any]]:
        directory = str(next((self._run / "log/journal").iterdir(), self._run))
        command = ["journalctl", "--directory", directory, "--quiet", "--all", "--output", "json"]
        result = subprocess.run(command, capture_output=True, check=False)
        return [msgspec.json.decode(line) for line in result.stdout.splitlines()]


def _line(entry: dict[str, Any]) -> LogLine:
    message = entry["MESSAGE"]
    data = message.encode() if isinstance(message, str) else bytes(message)
    return LogLine(int(entry["RUNNER_ATTEMPT"]), int(entry["RUNNER_SEQUENCE"]), 0, entry["RUNNER_STREAM"], data + b"\n")
