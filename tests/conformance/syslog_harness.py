"""A real rsyslog, reached by its socket and by UDP; it takes every message apart itself."""

from __future__ import annotations

import re
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from runner.job import Key
from runner.ports import LogLine, Sink
from runner.receipt import Event
from tests.conformance.log_daemon import LogDaemon, await_true, needed
from tests.conformance.sink_harness import IDS, OpenedByUrl, as_text, event_as_text, told_as_text
from tests.services.ports import free_port
from tests.services.service import find_program

CONFIGURATION = """
global(workDirectory="{directory}" parser.escapeControlCharactersOnReceive="off")
module(load="imuxsock" SysSock.Use="off")
module(load="imudp")
input(type="imuxsock" Socket="{directory}/socket" RateLimit.Interval="0")
input(type="imudp" address="127.0.0.1" port="{port}" rcvbufSize="8m")
template(name="all" type="list") {{ property(name="jsonmesg") constant(value="\\n") }}
action(type="omfile" file="{directory}/messages" template="all")
"""
_PART = re.compile(r"\[(\d+)/(\d+)\] (.*)", re.DOTALL)
MARK = "no more"


class SyslogHarness(OpenedByUrl):
    """By the socket, as programs of the box write."""

    knows = False
    tells_events = True

    def __init__(self) -> None:
        super().__init__()
        needed("rsyslogd")
        self.port = free_port()
        self._marks = 0

    @asynccontextmanager
    async def ready(self) -> AsyncIterator[None]:
        with tempfile.TemporaryDirectory() as name:
            self.directory = Path(name)
            configuration = self.directory / "configuration"
            configuration.write_text(CONFIGURATION.format(directory=name, port=self.port))
            program = find_program("rsyslogd") or "rsyslogd"
            command = (program, "-n", "-C", "-f", str(configuration), "-i", f"{name}/pid")
            socket_path = self.directory / "socket"
            self._daemon = LogDaemon(command, self.directory / "log", self._listens, socket_path)
            self._daemon.start()
            try:
                yield
            finally:
                await self.release()
                self._daemon.stop()

    def open(self) -> Sink:
        return self.opened(f"syslog://{self.directory}/socket")

    def lines(self, key: Key) -> list[LogLine]:
        return [item for item in self._told(key) if isinstance(item, LogLine)]

    def events(self, key: Key) -> list[Event]:
        return [item for item in self._told(key) if isinstance(item, Event)]

    def break_down(self, *, broken: bool) -> None:
        if broken:
            self._messages()  # what is not read yet would be lost with it
            self._daemon.stop()
        else:
            self._daemon.start()

    def as_told(self, line: LogLine) -> LogLine:
        return as_text(line)

    def event_as_told(self, event: Event) -> Event:
        return event_as_text(event)

    def parsed(self, message: dict[str, str]) -> tuple[str, str, str]:
        """Return the job's id, the stream and the text."""
        job_id, stream, text = message["msg"].removeprefix(" ").split(" ", 2)
        return job_id, stream, text

    def mark(self, text: str) -> None:
        """Send a last message the same way."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(f"<14>Jan  1 00:00:00 test: {text} - -".encode(), f"{self.directory}/socket")

    def _listens(self) -> bool:
        """Say whether both ways are open; a datagram that nobody takes is refused at once on loopback."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect(("127.0.0.1", self.port))
            sender.send(b"<14>1 - - test - - - ready")
            refused = sender.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return not refused and (self.directory / "socket").exists()

    def _told(self, key: Key) -> list[LogLine | Event]:
        found = (self.parsed(message) for message in self._messages())
        return list(_joined((stream, text) for job_id, stream, text in found if job_id == IDS[key]))

    def _messages(self) -> list[dict[str, str]]:
        self._marks += 1
        mark, file = f"{MARK}{self._marks}", self.directory / "messages"
        self.mark(mark)
        await_true(lambda: file.exists() and mark in file.read_text())
        whole = [msgspec.json.decode(line) for line in file.read_text().splitlines()]
        return [message for message in whole if message["syslogtag"].startswith("runner")]


class SyslogHostHarness(SyslogHarness):
    """By UDP, as RFC 5424 has it."""

    def open(self) -> Sink:
        return self.opened(f"syslog://127.0.0.1:{self.port}")

    def parsed(self, message: dict[str, str]) -> tuple[str, str, str]:
        return message["procid"], message["msgid"], message["msg"]

    def mark(self, text: str) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(f"<14>1 - - test - - - {text}".encode(), ("127.0.0.1", self.port))


def _joined(lines: Iterator[tuple[str, str]]) -> Iterator[LogLine | Event]:
    """Put the parts of long lines together."""
    parts: list[str] = []
    for stream, text in lines:
        if found := _PART.fullmatch(text):
            parts.append(found[3])
            assert int(found[1]) == len(parts)
            if found[1] == found[2]:
                yield told_as_text(stream, "".join(parts))
                parts = []
        else:
            yield told_as_text(stream, text)
