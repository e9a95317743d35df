"""Dead letters of a folder queue, and what has to be swept away in the end. Blocks; for one thread."""

from __future__ import annotations

import os
from collections.abc import Callable

from adapters.files import names_in, remove_file
from adapters.queues.folder_claims import read_body, renamed
from adapters.queues.folder_clock import QueueClock
from adapters.queues.folder_layout import Layout
from adapters.queues.folder_names import Message, read_claim, read_message, read_stamped, retried_name, token_message
from adapters.queues.folder_notes import Notes
from runner.errors import Unavailable
from runner.ports import DeadLetterRow

# A temporary file that did not change for a day belongs to nobody any more.
TEMPORARY_S = 86_400.0


class DeadLetters:
    """The rejected messages of one queue."""

    def __init__(self, layout: Layout, notes: Notes, *, clock: QueueClock, now: Callable[[], float]) -> None:
        self._layout = layout
        self._notes = notes
        self._clock = clock
        self._now = now

    def rows(self) -> tuple[DeadLetterRow, ...]:
        """List them, oldest first."""
        return tuple(self._row(name, at, message) for name, at, message in self._letters())

    def retry(self, submission: str) -> str | None:
        """
        Make one wait again as a new submission, so that nothing known of the old one ends it again; return its name.

        Its priority, user and id stay; its age starts anew.
        """
        found = self._find(submission)
        if found is None:
            return None
        name, message = found
        fresh = retried_name(message.name, self._now())
        if not renamed(self._layout.path("dead", name), self._layout.path("ready", fresh)):
            return None
        self._notes.remove(submission)
        return fresh

    def drop(self, submission: str) -> bool:
        """Delete one."""
        found = self._find(submission)
        return found is not None and self._delete(found[0], found[1])

    def prune(self, before: float) -> int:
        """Delete those rejected before an epoch second, and records and temporary files that nobody needs."""
        old = [(name, message) for name, at, message in self._letters() if at < before]
        deleted = sum(self._delete(name, message) for name, message in old if not self._is_directory(name))
        self._sweep_notes(before)
        self._sweep_temporary()
        return deleted

    def _letters(self) -> list[tuple[str, float, Message]]:
        stamped = [(name, read_stamped(name)) for name in sorted(names_in(self._layout.path("dead")))]
        read = [(name, stamp[0], read_message(stamp[1])) for name, stamp in stamped if stamp is not None]
        return [(name, at, message) for name, at, message in read if message is not None]

    def _find(self, submission: str) -> tuple[str, Message] | None:
        found = ((name, message) for name, _, message in self._letters() if message.submission == submission)
        return next(found, None)

    def _row(self, name: str, at: float, message: Message) -> DeadLetterRow:
        record = self._notes.load(message.submission)
        return DeadLetterRow(message.submission, record.reason, at, record.note, self._body(name), message.job)

    def _body(self, name: str) -> bytes:
        """Read a letter; empty where it went meanwhile, or was never a file."""
        try:
            found = read_body(self._layout.path("dead", name))
        except FileNotFoundError:
            return b""
        return found if isinstance(found, bytes) else b""

    def _delete(self, name: str, message: Message) -> bool:
        if self._is_directory(name):
            raise Unavailable(f"drop dead letter {self._layout.path('dead', name)}: a directory: remove it by hand")
        deleted = remove_file(self._layout.path("dead", name))
        self._notes.remove(message.submission)
        return deleted

    def _is_directory(self, name: str) -> bool:
        """Tell what somebody moved into the queue by mistake: it is kept, however old, since it may be precious."""
        path = self._layout.path("dead", name)
        return os.path.isdir(path) and not os.path.islink(path)

    def _sweep_notes(self, before: float) -> None:
        """Delete old records of messages that stand nowhere, left by a kill after an acknowledgement."""
        for submission in set(self._notes.submissions()) - self._submissions():
            path = self._layout.path("notes", submission)
            if _changed_at(path) < before:
                remove_file(path)

    def _submissions(self) -> set[str]:
        ready = names_in(self._layout.path("ready"))
        claims = [read_claim(name) for name in names_in(self._layout.path("claimed"))]
        stamped = [read_stamped(name) for part in ("later", "dead") for name in names_in(self._layout.path(part))]
        names = ready + [token_message(claim[0]) for claim in claims if claim] + [item[1] for item in stamped if item]
        return {message.submission for message in map(read_message, names) if message is not None}

    def _sweep_temporary(self) -> None:
        """Delete what writers left; by the file system's clock, so that a box that is a day ahead harms nobody."""
        before = self._clock.now() - TEMPORARY_S
        for part in ("tmp", "notes"):
            for name in os.listdir(self._layout.path(part)):
                path = self._layout.path(part, name)
                if (part == "tmp" or name.startswith(".")) and _changed_at(path) < before:
                    remove_file(path)


def _changed_at(path: str) -> float:
    """Return when a file was written last; never, where it is gone."""
    try:
        return os.lstat(path).st_mtime
    except FileNotFoundError:
        return float("inf")
