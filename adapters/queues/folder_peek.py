"""Looks at what stands in a queue directory without opening it: for commands, also while no box reads it. Blocking."""

from __future__ import annotations

import os
from contextlib import suppress

import msgspec

from adapters.files import explained, names_in
from adapters.queues.folder_claims import read_body
from adapters.queues.folder_layout import MARKER, is_queue
from adapters.queues.folder_names import read_claim, read_message, read_stamped, token_message
from runner.ports import QueuedMessage


class WaitingMessage(msgspec.Struct, frozen=True):
    """
    A message that is not settled: its submission, the job's id as a file name, and where it stands.

    ``due_at`` is set where it waits for a retry. Times are epoch seconds.
    """

    submission: str
    job: str
    enqueued_at: float
    path: str
    due_at: float | None = None

    def body(self) -> bytes:
        """Read the message, at most 1 MiB and a byte; empty where a box moved it meanwhile, or it is no file."""
        with suppress(FileNotFoundError):
            found = read_body(self.path)
            return found if isinstance(found, bytes) else b""
        return b""


def waiting_messages(root: str) -> tuple[WaitingMessage, ...]:
    """
    List what waits in the queue directory ``root``, in the order in which it is fetched; () where there is no queue.

    Raises:
        RunnerError: the directory cannot be read.
    """
    if not is_queue(root):
        return ()
    with explained("look into queue", root):
        ready = [_message(root, "ready", name, name, None) for name in sorted(names_in(f"{root}/ready"))]
        later = [_delayed(root, name) for name in sorted(names_in(f"{root}/later"))]
    return tuple(message for message in (*ready, *later) if message is not None)


def claimed_messages(root: str) -> tuple[WaitingMessage, ...]:
    """
    List what boxes have claimed in the queue directory ``root``, by name; () where there is no queue.

    Raises:
        RunnerError: the directory cannot be read.
    """
    if not is_queue(root):
        return ()
    with explained("look into queue", root):
        claims = [(name, read_claim(name)) for name in sorted(names_in(f"{root}/claimed"))]
    read = [_message(root, "claimed", name, token_message(claim[0]), None) for name, claim in claims if claim]
    return tuple(message for message in read if message is not None)


def queued_messages(root: str, limit: int) -> tuple[QueuedMessage, ...]:
    """Look at what waits, what is delayed and what is claimed, at most ``limit`` of each."""
    ready: list[WaitingMessage] = []
    later: list[WaitingMessage] = []
    for message in waiting_messages(root):
        (ready if message.due_at is None else later).append(message)
    free = [_queued(message) for message in (*ready[:limit], *later[:limit])]
    return (*free, *(_queued(message, claimed=True) for message in claimed_messages(root)[:limit]))


def _queued(message: WaitingMessage, *, claimed: bool = False) -> QueuedMessage:
    return QueuedMessage(
        message.submission,
        message.enqueued_at,
        message.body(),
        job_id=message.job,
        due_at=message.due_at,
        claimed=claimed,
    )


def queue_identity(root: str) -> str:
    """Return the identity of the queue in a directory, empty where there is none."""
    with suppress(OSError, msgspec.DecodeError), open(os.path.join(root, MARKER), "rb") as file:
        return msgspec.json.decode(file.read(), type=_Identity).identity
    return ""


class _Identity(msgspec.Struct, frozen=True):
    identity: str


def _delayed(root: str, name: str) -> WaitingMessage | None:
    stamp = read_stamped(name)
    return _message(root, "later", name, stamp[1], stamp[0]) if stamp else None


def _message(root: str, part: str, name: str, text: str, due_at: float | None) -> WaitingMessage | None:
    found = read_message(text)
    if found is None:
        return None
    return WaitingMessage(found.submission, found.job, found.enqueued_at, f"{root}/{part}/{name}", due_at)
