"""
Claims on messages: every change of hands is one rename of a file whose name says who has it and until when.

A rename needs the exact old name, so of two that would change a claim (its owner renews or settles, another box takes
up a lapsed one) exactly one succeeds and the other sees that the file is gone. Nothing depends on file times or locks.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable

from adapters.files import names_in, remove_file
from adapters.queues.folder_clock import QueueClock
from adapters.queues.folder_layout import Layout
from adapters.queues.folder_names import (
    DELAY_MAX_S,
    claim_name,
    read_claim,
    read_message,
    stamped_name,
    token_message,
)
from adapters.queues.folder_notes import NoteRecord, Notes
from runner.errors import LeaseLost
from runner.job import MESSAGE_MAX_BYTES, Note, Verdict
from runner.ports import Delivery


class Claims:
    """The claims that this box makes on one queue. Blocks; ``take`` in two threads, all else in one of them."""

    def __init__(
        self, layout: Layout, notes: Notes, *, clock: QueueClock, now: Callable[[], float], lease_s: float
    ) -> None:
        self._layout = layout
        self._notes = notes
        self._clock = clock
        self._now = now
        self._lease_s = lease_s
        # Names of the claims made here by token; a token of an earlier life is looked for in the directory instead.
        self._held: dict[str, str] = {}

    def holds(self, token: str) -> bool:
        """Tell whether the claim was made or renewed here, and not given up since; for any thread."""
        return token in self._held

    def take(self, name: str, part: str = "ready") -> Delivery | None:
        """
        Claim a message by its name in ``ready``, or in ``later`` before it is due.

        None where another box was faster, or where it is no file and went to the dead.
        """
        message = read_message(name.rpartition("~")[2])
        if message is None:
            return None
        token = f"{message.name}~{secrets.token_hex(8)}"
        claim = claim_name(token, self._clock.now() + self._lease_s)
        if not renamed(self._layout.path(part, name), self._layout.path("claimed", claim)):
            return None
        self._held[token] = claim
        body = read_body(self._layout.path("claimed", claim))
        if isinstance(body, str):
            self.settle(token, Verdict.REJECT, after_s=0, note=Note(), reason=body)
            return None
        note = self._notes.load(message.submission).note
        return Delivery(token, body, message.submission, message.enqueued_at, note, message.anonymous)

    def renew(self, token: str) -> None:
        """Let the claim lapse a whole lease from now, even if it lapsed but nobody took it up."""
        if not self._extend(token):
            raise _lost(token)

    def give_back(self, token: str) -> str:
        """Make a claimed message wait as if nobody had claimed it; return its name."""
        self._leave(token, self._layout.path("ready", token_message(token)))
        return token_message(token)

    def settle(self, token: str, verdict: Verdict, *, after_s: float, note: Note, reason: str) -> None:
        """
        Carry out a verdict: the claim is renewed, the record written, the message moved, in this order.

        So a lost claim changes nothing, and after a kill in between the same call goes on where it stopped. An
        acknowledgement only deletes, and needs no space on the disk.
        """
        message = read_message(token_message(token))
        if message is None:
            raise _lost(token)
        if verdict is Verdict.ACK:
            self._acknowledge(token, message.submission)
            return
        if not self._extend(token):
            self._require_settled(token, message.submission, verdict)
            return
        self._notes.write(message.submission, NoteRecord(note, token, verdict, reason))
        if not self._leave(token, self._destination(message.name, verdict, after_s)):
            raise _lost(token)

    def _acknowledge(self, token: str, submission: str) -> None:
        claim = self._find(token)
        if claim is None or not remove_file(self._layout.path("claimed", claim)):
            self._require_gone(token)
        self._held.pop(token, None)
        self._notes.remove(submission)

    def _destination(self, message: str, verdict: Verdict, after_s: float) -> str:
        if verdict is Verdict.REJECT:
            return self._layout.path("dead", stamped_name(self._now(), message))
        if after_s > 0:
            due_at = self._clock.now() + min(after_s, DELAY_MAX_S)
            return self._layout.path("later", stamped_name(due_at, message))
        return self._layout.path("ready", message)

    def _extend(self, token: str) -> bool:
        claim = claim_name(token, self._clock.now() + self._lease_s)
        if not self._move(token, self._layout.path("claimed", claim)):
            self._held.pop(token, None)
            return False
        self._held[token] = claim
        return True

    def _leave(self, token: str, target: str) -> bool:
        """Rename a claim's file to where nobody claims it; False where it is gone."""
        moved = self._move(token, target)
        self._held.pop(token, None)
        return moved

    def _move(self, token: str, target: str) -> bool:
        """Rename a claim's file; False where it is gone."""
        held = self._held.get(token)
        if held is not None and renamed(self._layout.path("claimed", held), target):
            return True
        found = self._search(token)
        return found is not None and renamed(self._layout.path("claimed", found), target)

    def _find(self, token: str) -> str | None:
        held = self._held.get(token)
        if held is not None and os.path.lexists(self._layout.path("claimed", held)):
            return held
        return self._search(token)

    def _search(self, token: str) -> str | None:
        for name in names_in(self._layout.path("claimed")):
            claim = read_claim(name)
            if claim is not None and claim[0] == token:
                return name
        return None

    def _require_settled(self, token: str, submission: str, verdict: Verdict) -> None:
        """Accept a repeated settlement by its record."""
        record = self._notes.load(submission)
        if (record.token, record.verdict) != (token, verdict):
            raise _lost(token)

    def _require_gone(self, token: str) -> None:
        """Accept a repeated acknowledgement: the message stands nowhere."""
        message = token_message(token)
        others = [*names_in(self._layout.path("later")), *names_in(self._layout.path("dead"))]
        claimed = names_in(self._layout.path("claimed"))
        waits = os.path.lexists(self._layout.path("ready", message))
        if waits or any(n.startswith(message + "~") for n in claimed) or any(n.endswith("~" + message) for n in others):
            raise _lost(token)


def renamed(source: str, target: str) -> bool:
    """Rename; False where the source is gone."""
    try:
        os.rename(source, target)
    except FileNotFoundError:
        if not os.path.isdir(os.path.dirname(target)):
            raise
        return False
    return True


def read_body(path: str) -> bytes | str:
    """Read a message up to one byte more than it may have; text says why that cannot be done."""
    mode = os.lstat(path).st_mode
    if not stat.S_ISREG(mode):
        return f"no regular file but {describe_kind(mode)}: put a copy of the file itself into the queue"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except PermissionError:
        return f"user {os.geteuid()} may not read the message's file: put in a copy that belongs to that user"
    with open(fd, "rb") as file:
        return file.read(MESSAGE_MAX_BYTES + 1)


def describe_kind(mode: int) -> str:
    """Name the kind of a file that is no regular one."""
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a FIFO"}
    return kinds.get(stat.S_IFMT(mode), "a device or socket")


def _lost(token: str) -> LeaseLost:
    return LeaseLost(f"claim on message {token_message(token)}: it lapsed or was settled; another box may have it")
