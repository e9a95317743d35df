"""
A job's log as server-sent events, written and read.

| event | id | data |
| --- | --- | --- |
| ``line`` | ``<attempt>-<sequence>`` | a record, as ``runner logs --json`` prints it |
| ``event`` | ``<attempt>-<sequence>`` | a state change: ``{"event": …}`` |
| ``end`` | ``end`` | the end of the job: ``{"event": …}``; of a log that was not to be followed: ``{}`` |

Whoever comes again with the id of the last one (``Last-Event-ID``) goes on behind it. Lines that begin with a colon are
signs of life.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import msgspec

from adapters.http.follow import told_by
from runner.log_json import log_json
from runner.ports import LogLine, Position
from runner.receipt import Event

CONTENT_TYPE = "text/event-stream"
ALIVE = b":\n\n"
END_ID = "end"
_ID = re.compile(r"([1-9]\d{0,8})-(\d{1,18})")


class Sent(msgspec.Struct, frozen=True):
    """One event as it came: its name, the id to come again with, its data."""

    name: str
    id: str
    data: bytes


class _Document(msgspec.Struct, frozen=True):
    """What stands in the data of an event."""

    attempt: int = 1
    sequence: int = 0
    at: float = 0.0
    stream: str = ""
    text: str = ""
    data: bytes | None = None
    event: Event | None = None


def id_of(line: LogLine) -> str:
    """Return the id of a record's event."""
    return f"{line.attempt}-{line.sequence}"


def behind(event_id: str) -> Position:
    """
    Return the position behind the event of this id; the first one for "".

    Raises:
        ValueError: it is none of ours.
    """
    if not event_id:
        return Position()
    found = _ID.fullmatch(event_id)
    if found is None:
        raise ValueError(f"Last-Event-ID {event_id!r} is none of this log's: write <attempt>-<sequence>")
    return Position(int(found[1]), int(found[2]) + 1)


def written(line: LogLine) -> bytes:
    """Write the event of a record."""
    told = told_by(line)
    return _event("line" if isinstance(told, LogLine) else "event", id_of(line), log_json(told))


def written_end(end: Event | None) -> bytes:
    """Write the end."""
    return _event("end", END_ID, b"{}" if end is None else log_json(end))


def _event(name: str, event_id: str, data: bytes) -> bytes:
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (event_id.encode(), name.encode(), data)


def read(lines: Iterable[bytes]) -> Iterator[Sent]:
    """Yield the events of a stream of ours; signs of life are left out."""
    fields: dict[bytes, bytes] = {}
    for line in lines:
        name, _, value = line.rstrip(b"\n").partition(b": ")
        if name:
            fields[name] = value
        elif b"event" in fields:
            yield Sent(fields[b"event"].decode(), fields.get(b"id", b"").decode(), fields.get(b"data", b""))
            fields = {}


def told_in(sent: Sent) -> LogLine | Event | None:
    """
    Return the record or the state change that an event tells; None of an end that tells none.

    Raises:
        msgspec.DecodeError: it is none of ours.
    """
    if sent.data == b"{}":
        return None
    document = msgspec.json.decode(sent.data, type=_Document)
    if document.event is not None:
        return document.event
    data = document.text.encode() if document.data is None else document.data
    return LogLine(document.attempt, document.sequence, round(document.at * 1e9), document.stream, data)
