"""
Lines of logs as messages of syslog. Pure.

To a host by RFC 5424; to the socket of this box as its C library writes them, since daemons read nothing else there.
Messages are at most 2048 bytes, which receivers take; a longer line is cut in parts, each marked ``[part/parts]``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

from adapters.sinks.chunks import chunks
from adapters.sinks.log_text import event_text, shown, told_time
from runner.job import Key, safe_name
from runner.ports import LogLine
from runner.receipt import Event

MESSAGE_BYTES = 2048
APP = "runner"
USER_FACILITY = 1
WARNING, NOTICE, INFORMATIONAL = 4, 5, 6
PRIORITIES = {"stderr": NOTICE, "event": NOTICE, "gap": WARNING}
"""By stream, of those that are more than informational."""
_MARK_BYTES = len("[999999/999999] ")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_UNFIT = re.compile(r"[^\x21-\x7e]")


class SyslogForm:
    """What is sent for a record or a state change; ``host`` names this box, "" for the socket of this box."""

    def __init__(self, host: str) -> None:
        self._host = _UNFIT.sub("_", host)[:255]

    def line(self, line: LogLine, key: Key, job_id: str) -> Iterator[bytes]:  # noqa: ARG002 - of all forms
        """Yield a message for each line of a record."""
        about = f'[runner@32473 attempt="{line.attempt}" sequence="{line.sequence}"]'
        before = self._before(line.stream, line.at_ns, job_id, about)
        for text in shown(line).removesuffix("\n").split("\n"):
            yield from parts(before, text)

    def event(self, event: Event, key: Key, job_id: str) -> Iterator[bytes]:  # noqa: ARG002 - of all forms
        """Yield the message of a state change."""
        return parts(self._before("event", round(event.at * 1e9), job_id, "-"), event_text(event))

    def joined(self, lines: list[LogLine]) -> Iterator[LogLine]:
        """Put together what became one run, so that no line is cut where a record ended."""
        return chunks(lines)

    def _before(self, stream: str, at_ns: int, job_id: str, about: str) -> bytes:
        priority, job = 8 * USER_FACILITY + PRIORITIES.get(stream, INFORMATIONAL), safe_name(job_id)
        if self._host:
            return f"<{priority}>1 {told_time(at_ns)} {self._host} {APP} {job} {stream} {about} ".encode()
        at = datetime.fromtimestamp(at_ns // 10**9).astimezone()
        return f"<{priority}>{_MONTHS[at.month - 1]} {at.day:2d} {at:%H:%M:%S} {APP}: {job} {stream} ".encode()


def parts(before: bytes, text: str) -> Iterator[bytes]:
    """Yield one message, or several with a mark where it would be too long."""
    data = text.encode()
    if len(before) + len(data) <= MESSAGE_BYTES:
        yield before + data
        return
    pieces = list(_pieces(data, MESSAGE_BYTES - len(before) - _MARK_BYTES))
    for number, piece in enumerate(pieces, 1):
        yield b"%b[%d/%d] %b" % (before, number, len(pieces), piece)


def _pieces(data: bytes, most_bytes: int) -> Iterator[bytes]:
    """Cut UTF-8 between characters."""
    begin = 0
    while begin < len(data):
        end = begin + most_bytes
        while end < len(data) and data[end] & 0xC0 == 0x80:  # noqa: PLR2004 - the inside of a character
            end -= 1
        yield data[begin:end]
        begin = end
