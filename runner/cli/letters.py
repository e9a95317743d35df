"""Dead letters as commands show them: the job in each, how often it was tried, its content without secrets. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from adapters.wire.document import Unreadable, read
from adapters.wire.native import decode
from runner.cli.output import masked
from runner.job import Note

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runner.ports import DeadLetterRow, Queue

MASK = "***"
SECRET = re.compile(r"secret|token|passw|credential|private|api_?key|access_?key|auth", re.IGNORECASE)


class Letter(msgspec.Struct, frozen=True):
    """One dead letter; ``name`` and ``user`` as far as its message says them, however wrong the rest of it is."""

    submission: str
    queue: str
    id: str
    name: str
    user: str
    reason: str
    at: float
    note: Note
    body: bytes

    @property
    def tries(self) -> int:
        """How often it was tried, by whomever's fault it ended."""
        return self.note.attempts + self.note.faults

    def row(self) -> dict[str, object]:
        """Return what ``--json`` lists of it."""
        job = {"id": self.id, "name": self.name, "user": self.user, "queue": self.queue}
        counted = {"attempts": self.note.attempts, "faults": self.note.faults, "starts": self.note.starts}
        return {"submission": self.submission, **job, "reason": self.reason, "at": self.at, **counted}

    def content(self) -> tuple[object, str]:
        """Return its message without secrets, or None and why that cannot be told from the bytes."""
        try:
            return _without_secrets(read(self.body)), ""
        except Unreadable as error:
            return None, str(error)


def letters_of(queue: Queue, rows: Iterable[DeadLetterRow]) -> tuple[Letter, ...]:
    """Read the dead letters of a queue."""
    return tuple(_letter(queue.name, row) for row in rows)


def _letter(queue: str, row: DeadLetterRow) -> Letter:
    job_id = decode(row.body).job.id or row.job_id or row.submission
    name, user = _said(row.body, "name"), _said(row.body, "user")
    reason = row.reason or row.note.last_reason
    return Letter(row.submission, queue, job_id, name, user, reason, row.at, row.note, row.body)


def _said(body: bytes, key: str) -> str:
    try:
        document = read(body)
    except Unreadable:
        return ""
    found = document.get(key) if isinstance(document, dict) else None
    return _text(found) if isinstance(found, str) else ""


def _without_secrets(document: object) -> object:
    """Mask what may be secret; a form that is not ours may have it anywhere, so it goes by the names of its keys."""
    match document:
        case dict():
            return {_text(key): _masked_value(str(key), value) for key, value in document.items()}
        case list():
            return [_without_secrets(item) for item in document]
        case bool() | float() | None:
            return document
        case int() if abs(document) < 1 << 63:
            return document
        case _:
            return _text(document)


def _text(value: object) -> str:
    """Write what JSON has no form for, too: dates, numbers without end, halves of a character."""
    return masked(str(value).encode("utf-8", "backslashreplace").decode())


def _masked_value(key: str, value: object) -> object:
    """Names of secrets may stand in a list; whatever else stands under such a key is one."""
    if key != "env" and (not SECRET.search(key) or isinstance(value, list)):
        return _without_secrets(value)
    return dict.fromkeys(value, MASK) if isinstance(value, dict) else MASK
