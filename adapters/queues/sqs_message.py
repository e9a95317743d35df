"""
How a message stands in SQS: its body as text, and one attribute, ``runner``, that holds all that we know of it; pure.

A body that SQS cannot carry as it is (other bytes than its text, nothing at all, or too many) is sent coded, and the
attribute says how; what the queue's limit still refuses is refused here, by name.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import re
import zlib
from dataclasses import dataclass, field
from typing import Any

import msgspec

from runner.errors import BadInput
from runner.job import MESSAGE_MAX_BYTES, Note

log = logging.getLogger(__name__)

ATTRIBUTE = "runner"
ATTRIBUTES_MAX = 10
_REFUSED = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Envelope(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    What the attribute says.

    ``enqueued_at`` is the first submission where this is a copy, ``due_at`` set where it waits for longer than SQS can
    delay, ``coding`` how the body is coded. ``queue``, ``reason`` and ``rejected_at`` are a dead letter's; ``claim``,
    ``queue`` and ``lease_s`` those of a claim that was moved. Times are epoch seconds.
    """

    submission: str = ""
    enqueued_at: float = 0.0
    note: Note = Note()
    due_at: float = 0.0
    coding: str = ""
    job_id: str = ""
    user: str = ""
    group: str = ""
    queue: str = ""
    reason: str = ""
    rejected_at: float = 0.0
    claim: str = ""
    lease_s: float = 0.0


@dataclass(frozen=True)
class Received:
    """One message as the service gave it; ``foreign`` are the attributes that others put beside it."""

    message_id: str
    handle: str
    body: bytes
    sent_at: float
    receives: int
    group: str
    source: str
    envelope: Envelope
    foreign: dict[str, Any] = field(default_factory=dict)

    @property
    def submission(self) -> str:
        """The one it was put with, else the service's own id."""
        return self.envelope.submission or self.message_id

    @property
    def enqueued_at(self) -> float:
        """The first submission over all copies."""
        return self.envelope.enqueued_at or self.sent_at


def read_message(raw: dict[str, Any]) -> Received:
    """Read what ``ReceiveMessage`` gave."""
    system = raw.get("Attributes", {})
    attributes = dict(raw.get("MessageAttributes", {}))
    envelope = _read_envelope(attributes.pop(ATTRIBUTE, {}).get("StringValue", ""), raw["MessageId"])
    return Received(
        message_id=raw["MessageId"],
        handle=raw["ReceiptHandle"],
        body=decode_body(raw.get("Body", ""), envelope.coding),
        sent_at=int(system.get("SentTimestamp", 0)) / 1000,
        receives=int(system.get("ApproximateReceiveCount", 1)),
        group=envelope.group or system.get("MessageGroupId", ""),
        source=system.get("DeadLetterQueueSourceArn", ""),
        envelope=envelope,
        foreign=attributes,
    )


def packed(body: bytes, envelope: Envelope, foreign: dict[str, Any], limit_bytes: int) -> dict[str, Any]:
    """
    Return a message's body and attributes as ``SendMessage`` takes them: as it is where it fits, else coded.

    Raises:
        BadInput: it does not fit into the queue's limit either way.
    """
    beside = foreign if len(foreign) < ATTRIBUTES_MAX else {}
    size = 0
    for coding in ("", "base64", "zlib"):
        text = encode_body(body, coding)
        if text is None:
            continue
        told = msgspec.structs.replace(envelope, coding=coding)
        attributes = {**_sendable(beside), ATTRIBUTE: {"DataType": "String", "StringValue": _write_envelope(told)}}
        size = len(text.encode()) + sum(map(_attribute_bytes, attributes.items()))
        if size <= limit_bytes:
            return {"MessageBody": text, "MessageAttributes": attributes}
    raise BadInput(
        f"the message takes {size} bytes with what stands beside it, also compressed; its SQS queue takes {limit_bytes}"
        " (MaximumMessageSize): put large parts into a store and name their URL"
    )


def encode_body(body: bytes, coding: str) -> str | None:
    """Return a body as text in one coding; None where it cannot stand in it."""
    match coding:
        case "":
            return _plain(body)
        case "zlib":
            return "zlib:" + base64.b64encode(zlib.compress(body, 6)).decode("ascii")
        case _:
            return "base64:" + base64.b64encode(body).decode("ascii")


def decode_body(text: str, coding: str) -> bytes:
    """Return a body's bytes, up to one more than a message may have; as it stands where it is not coded as is said."""
    known, _, content = text.partition(":")
    if coding not in {"base64", "zlib"} or known != coding:
        return text.encode()[: MESSAGE_MAX_BYTES + 1]
    try:
        data = base64.b64decode(content, validate=True)
        if coding == "zlib":
            return zlib.decompressobj().decompress(data, MESSAGE_MAX_BYTES + 1)
    except (binascii.Error, zlib.error):
        return text.encode()[: MESSAGE_MAX_BYTES + 1]
    return data[: MESSAGE_MAX_BYTES + 1]


def _plain(body: bytes) -> str | None:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    return None if not text or _REFUSED.search(text) else text


def _sendable(attributes: dict[str, Any]) -> dict[str, Any]:
    keys = ("DataType", "StringValue", "BinaryValue")
    return {name: {key: value[key] for key in keys if key in value} for name, value in attributes.items()}


def _attribute_bytes(item: tuple[str, dict[str, Any]]) -> int:
    name, value = item
    content = value.get("StringValue", value.get("BinaryValue", ""))
    return len(name) + len(value["DataType"]) + len(content.encode() if isinstance(content, str) else content)


def _write_envelope(envelope: Envelope) -> str:
    return json.dumps(msgspec.to_builtins(envelope), separators=(",", ":"))


def _read_envelope(text: str, message_id: str) -> Envelope:
    if not text:
        return Envelope()
    try:
        return msgspec.json.decode(text, type=Envelope)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        extra = {"action": "note_ignored", "message_id": message_id, "error": str(error)}
        log.warning("the attribute of a message cannot be read", extra=extra)
        return Envelope()
