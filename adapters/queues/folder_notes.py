"""
What stands beside a message: its note, and how it was last settled and by which claim.

One file per submission in ``notes``, replaced whole before the message moves; a message without one was never settled.
"""

from __future__ import annotations

import logging
import os

import msgspec

from adapters.files import names_in, remove_file, write_whole
from adapters.queues.folder_layout import Layout
from runner.job import Note, Verdict

log = logging.getLogger(__name__)


class NoteRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """``token`` and ``verdict`` tell a repeated settlement from another's; ``reason`` is a dead letter's."""

    note: Note = Note()
    token: str = ""
    verdict: Verdict | None = None
    reason: str = ""


class Notes:
    """The records of one queue."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def load(self, submission: str) -> NoteRecord:
        """Return a submission's record; an empty one where none stands or it cannot be read."""
        path = self._layout.path("notes", submission)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return NoteRecord()
        with open(fd, "rb") as file:
            content = file.read()
        try:
            return msgspec.json.decode(content, type=NoteRecord)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            log.warning("note cannot be read", extra={"action": "note_ignored", "path": path, "error": str(error)})
            return NoteRecord()

    def write(self, submission: str, record: NoteRecord) -> None:
        """Replace a submission's record."""
        write_whole(self._layout.path("notes", submission), msgspec.json.encode(record))

    def remove(self, submission: str) -> None:
        """Forget a submission; idempotent."""
        remove_file(self._layout.path("notes", submission))

    def submissions(self) -> list[str]:
        """List the submissions that have a record."""
        return names_in(self._layout.path("notes"))
