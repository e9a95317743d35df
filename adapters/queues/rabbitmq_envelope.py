"""
What travels with a message in one header of ours, beside everything that its sender gave it. No I/O.

Properties that the broker would act on again (``expiration``, ``user_id``, ``CC``) move into that header.
"""

from __future__ import annotations

import hashlib
import logging

import msgspec

from adapters.queues.rabbitmq_fields import (
    PERSISTENT,
    Headers,
    Properties,
    decode_properties,
    encode_properties,
    long_text,
    without_deaths,
)
from adapters.queues.rabbitmq_names import is_own
from runner.job import MESSAGE_MAX_BYTES, Note
from runner.ports import DeadLetterRow, Delivery

log = logging.getLogger(__name__)

HEADER = b"runner"
ACTED_ON = ("expiration", "user_id")
COPIES = (b"CC", b"BCC")
TEXT_MAX = 4096
NOTE_MAX_BYTES = 32 << 10
"""All properties of a message have to fit into one frame."""


class Envelope(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    ``token`` names the last claim; ``reason`` and ``dead_at`` are a dead letter's. ``kept`` are properties that were
    moved in here.
    """

    submission: str = ""
    enqueued_at: float = 0.0
    job_id: str = ""
    user: str = ""
    note: Note = Note()
    token: str = ""
    reason: str = ""
    dead_at: float = 0.0
    kept: dict[str, str] = {}


class Message(msgspec.Struct, frozen=True):
    """A message as it was delivered; ``tag`` is its number in its channel."""

    tag: int
    body: bytes
    properties: Properties


def read_message(tag: int, body: bytes, raw: bytes) -> Message:
    """Take a delivered message apart; properties that nobody can read are left out."""
    try:
        properties = decode_properties(raw)
    except ValueError as error:
        log.warning("properties of a message cannot be read", extra={"action": "read_message", "error": str(error)})
        properties = Properties()
    return Message(tag, body, properties)


def read_envelope(properties: Properties) -> Envelope | None:
    """Return what travels with a message; None where nothing of ours does."""
    text = properties.header_text(HEADER)
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=Envelope)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        log.warning("a message's header cannot be read", extra={"action": "envelope_ignored", "error": str(error)})
        return None


def known_envelope(message: Message, now: float, submission: str) -> Envelope:
    """Return what travels with a message, made where nothing does: its own id and time, else this name and now."""
    envelope = read_envelope(message.properties) or Envelope()
    timestamp = message.properties.timestamp
    return msgspec.structs.replace(
        envelope,
        submission=envelope.submission or message.properties.text("message_id") or submission,
        enqueued_at=envelope.enqueued_at or (now if timestamp is None else float(timestamp)),
    )


def packed(properties: Properties, envelope: Envelope, limit: int) -> bytes:
    """Return the properties that a message goes on with; its sender's headers are left out where they do not fit."""
    moved = {name: properties.text(name) for name in ACTED_ON if name in properties.fields}
    copies = {name.decode(): properties.headers[name].hex() for name in COPIES if name in properties.headers}
    full = msgspec.structs.replace(_bounded(envelope), kept={**moved, **copies, **envelope.kept})
    ours: Headers = {HEADER: long_text(msgspec.json.encode(full).decode())}
    foreign = {n: raw for n, raw in _foreign(properties.headers).items() if n not in {HEADER, *COPIES}}
    base = properties.but({"delivery_mode": PERSISTENT, **dict.fromkeys(ACTED_ON)}, {})
    encoded = encode_properties(Properties(base.fields, {**foreign, **ours}))
    if len(encoded) <= limit:
        return encoded
    log.warning(
        "headers of a message do not fit beside its note, and are left out",
        extra={"action": "pack", "submission": envelope.submission, "bytes": len(encoded)},
    )
    return encode_properties(Properties(base.fields, ours))


def to_delivery(message: Message, envelope: Envelope) -> Delivery:
    """Return what a fetch brings."""
    body = message.body[: MESSAGE_MAX_BYTES + 1]
    return Delivery(envelope.token, body, envelope.submission, envelope.enqueued_at, envelope.note)


def to_dead_letter(message: Message) -> DeadLetterRow:
    """Return one line of the list of dead letters, also of one that was put there by somebody else."""
    envelope = known_envelope(message, 0.0, fingerprint(message))
    return DeadLetterRow(
        envelope.submission,
        envelope.reason or message.properties.header_text(b"x-first-death-reason") or "",
        envelope.dead_at or envelope.enqueued_at,
        envelope.note,
        message.body[: MESSAGE_MAX_BYTES + 1],
        envelope.job_id,
    )


def _foreign(headers: Headers) -> Headers:
    try:
        return without_deaths(headers, is_own)
    except ValueError:
        return {}


def _bounded(envelope: Envelope) -> Envelope:
    """Cut what would grow without end: the reason, and the oldest lines of the history."""
    note = envelope.note
    lines = note.history
    while len(msgspec.json.encode(lines)) > NOTE_MAX_BYTES:
        lines = lines[len(lines) // 4 + 1 :]
    boxes, refused_by = note.boxes[-256:], note.refused_by[-256:]
    last_reason = _said(note.last_reason[:TEXT_MAX])
    note = msgspec.structs.replace(note, history=lines, boxes=boxes, refused_by=refused_by, last_reason=last_reason)
    return msgspec.structs.replace(envelope, note=note, reason=_said(envelope.reason[:TEXT_MAX]))


def _said(text: str) -> str:
    """Return a text without what JSON cannot carry."""
    return text.encode("utf-8", "replace").decode()


def fingerprint(message: Message) -> str:
    """Return a name for a message that has none, equal at each delivery."""
    told = message.body + b"".join(raw for _, raw in sorted(message.properties.fields.items()))
    return hashlib.sha256(told).hexdigest()[:24]
