"""
What goes to a Redis queue's script and comes back: tokens, notes, messages; pure.

A token is ``<nonce>.<ref>``, a ref ``<job's mark>.<number>.<level>.<user>``: the claim, and where its message stands.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from runner.errors import LeaseLost
from runner.job import Note
from runner.ports import DeadLetterRow, Delivery, QueuedMessage

log = logging.getLogger(__name__)

PRIORITY_LIMIT = 999_999_999
DELAY_MAX_S = 10 * 365 * 86_400.0
_TOKEN = re.compile(r"([0-9a-f]{16})\.([0-9a-f]{16}\.(\d{1,15})\.-?\d{1,9}\..*)", re.DOTALL)


class Nothing(msgspec.Struct, frozen=True):
    """A fetch found nothing: when to look again at the latest, and how far the streams of arrivals were."""

    look_s: float
    rung: bytes
    added: bytes


def read_token(token: str, queue: str) -> tuple[str, bytes]:
    """
    Return the nonce and the ref of a token.

    Raises:
        LeaseLost: no claim ever had such a token.
    """
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise LeaseLost(f"queue {queue}: a claim that never was")
    return match[1], encode_text(match[2])


def lost(token: str, queue: str) -> LeaseLost:
    """Return the error for a claim that is another's; the message is named by its number in the queue."""
    match = _TOKEN.fullmatch(token)
    number = match[3] if match else "?"
    return LeaseLost(
        f"claim on message {number} of queue {queue}: it lapsed or was settled otherwise; another box may have it"
    )


def encode_text(text: str) -> bytes:
    """Write text; what is no text in it is told in words."""
    return text.encode("utf-8", "backslashreplace")


def decode_text(content: bytes) -> str:
    """Read text; what is no text in it is told in words, so that it can be written anywhere."""
    return content.decode("utf-8", "backslashreplace")


def encode_served(served: Mapping[str, float]) -> bytes:
    """Write who was served for how long, null for who is passed over."""
    told = {
        decode_text(encode_text(user)): seconds if math.isfinite(seconds) else None
        for user, seconds in served.items()
        if math.isfinite(seconds) or seconds > 0
    }
    return msgspec.json.encode(told)


def clamp_priority(priority: int) -> int:
    """Priorities beyond a billion count as a billion."""
    return max(-PRIORITY_LIMIT, min(PRIORITY_LIMIT, priority))


def read_delivery(row: Sequence[Any]) -> Delivery:
    """Read token, body, submission, time, note and user."""
    token, body, submission, at, note, user = row
    return Delivery(decode_text(token), body, decode_text(submission), _number(at), read_note(note), not user)


def read_queued(fields: Sequence[Any], state: bytes, ends_ms: bytes) -> QueuedMessage:
    """Read a message that was looked at: its fields, how it stands, and when a delay ends."""
    submission, at, body, job, user = fields
    return QueuedMessage(
        decode_text(submission),
        _number(at),
        body,
        job_id=decode_text(job),
        user=decode_text(user),
        due_at=_number(ends_ms) / 1000 if state == b"later" else None,
        claimed=state == b"claims",
    )


def read_dead(row: Sequence[Any]) -> DeadLetterRow:
    """Read a dead letter: its place, submission, reason, time, note, body and job's id."""
    _, submission, reason, at, note, body, job = row
    told = decode_text(submission), decode_text(reason), _number(at), read_note(note)
    return DeadLetterRow(*told, body, decode_text(job))


def read_note(content: bytes) -> Note:
    """Read a note; a fresh one where none stands or it cannot be read."""
    if not content:
        return Note()
    try:
        return msgspec.json.decode(content, type=Note)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        log.warning("note cannot be read", extra={"action": "note_ignored", "error": str(error)})
        return Note()


def _number(content: bytes) -> float:
    try:
        return float(content)
    except ValueError:
        return 0.0
