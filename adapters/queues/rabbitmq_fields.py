"""
The properties of an AMQP message as bytes: taken apart only as far as needed, so that what is not ours never changes.

A client library's values would not do: integers change their width, doubles lose digits, text that is not UTF-8 ends
the connection. No I/O.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

import msgspec

NAMES = (
    "content_type",
    "content_encoding",
    "headers",
    "delivery_mode",
    "priority",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "timestamp",
    "type",
    "user_id",
    "app_id",
    "cluster_id",
)
"""All properties in their order on the wire; the first has the highest bit of the flags."""

_FIXED = {"delivery_mode": 1, "priority": 1, "timestamp": 8}
_VALUE_SIZES = dict(zip(b"tbBsuIilLfdDTV\0", (1, 1, 1, 2, 2, 4, 4, 8, 8, 4, 8, 5, 8, 0, 0), strict=True))
_LONG = b"SAFx"
PERSISTENT = b"\x02"

Headers = dict[bytes, bytes]
"""Encoded values, each with the letter of its type, by name; in their order."""


class Properties(msgspec.Struct, frozen=True):
    """``fields`` are encoded values by name, without the headers."""

    fields: dict[str, bytes] = {}
    headers: Headers = {}

    def text(self, name: str) -> str:
        """Return a short text; "" where it is not set."""
        return self.fields.get(name, b"\0")[1:].decode("utf-8", "replace")

    @property
    def timestamp(self) -> int | None:
        """Epoch seconds; None where it is not set."""
        raw = self.fields.get("timestamp")
        return None if raw is None else int.from_bytes(raw, "big")

    def header_text(self, name: bytes) -> str | None:
        """Return a header that is text."""
        raw = self.headers.get(name, b"")
        return raw[5:].decode("utf-8", "replace") if raw[:1] == b"S" else None

    def but(self, fields: Mapping[str, bytes | None], headers: Mapping[bytes, bytes | None]) -> Properties:
        """Return these with some set, or left out where they are None."""
        new_fields = {name: raw for name, raw in {**self.fields, **fields}.items() if raw is not None}
        new_headers = {name: raw for name, raw in {**self.headers, **headers}.items() if raw is not None}
        return Properties(new_fields, new_headers)


def short_text(value: str) -> bytes:
    """Encode a property that is text of at most 255 bytes."""
    raw = value.encode()
    return struct.pack("B", len(raw)) + raw


def long_text(value: str) -> bytes:
    """Encode a header's value."""
    raw = value.encode("utf-8", "surrogateescape")
    return b"S" + struct.pack(">I", len(raw)) + raw


def encode_properties(properties: Properties) -> bytes:
    """Return what follows the size of the body in a content header."""
    parts, flags = [], 0
    encoded = {**properties.fields}
    if properties.headers:
        encoded["headers"] = encode_table(properties.headers)
    for bit, name in enumerate(NAMES):
        if name in encoded:
            flags |= 1 << (15 - bit)
            parts.append(encoded[name])
    return struct.pack(">H", flags) + b"".join(parts)


def encode_table(table: Headers) -> bytes:
    """Return a table with its length."""
    content = b"".join(struct.pack("B", len(name)) + name + raw for name, raw in table.items())
    return struct.pack(">I", len(content)) + content


def decode_properties(raw: bytes) -> Properties:
    """
    Take properties apart.

    Raises:
        ValueError: they are malformed.
    """
    (flags,) = struct.unpack_from(">H", _whole(raw, 0, 2))
    fields, headers, at = dict[str, bytes](), Headers(), 2
    for bit, name in enumerate(NAMES):
        if not flags & (1 << (15 - bit)):
            continue
        size = _property_size(name, raw, at)
        value = _whole(raw, at, size)
        if name == "headers":
            headers = decode_table(value)
        else:
            fields[name] = value
        at += size
    return Properties(fields, headers)


def decode_table(raw: bytes) -> Headers:
    """Take a table with its length apart; ValueError where it is malformed."""
    table, at = Headers(), 4
    while at < len(raw):
        name = _whole(raw, at + 1, _whole(raw, at, 1)[0])
        at += 1 + len(name)
        table[name] = _whole(raw, at, _value_size(raw, at))
        at += len(table[name])
    return table


def decode_array(raw: bytes) -> list[bytes]:
    """Take an array's value, with its letter, apart into encoded values."""
    values, at = [], 5
    while at < len(raw):
        values.append(_whole(raw, at, _value_size(raw, at)))
        at += len(values[-1])
    return values


def encode_array(values: list[bytes]) -> bytes:
    """Return an array's value with its letter."""
    content = b"".join(values)
    return b"A" + struct.pack(">I", len(content)) + content


def without_deaths(headers: Headers, is_ours: Callable[[str], bool]) -> Headers:
    """Leave out what the broker noted as a message passed through our own queues, and how often it was delivered."""
    deaths = decode_array(headers.get(b"x-death", b"A\0\0\0\0"))
    kept = [death for death in deaths if not is_ours(_died_in(death))]
    changed = {name: raw for name, raw in headers.items() if name not in {b"x-death", b"x-delivery-count"}}
    for which in (b"x-first-death-", b"x-last-death-"):
        if is_ours(Properties(headers=headers).header_text(which + b"queue") or ""):
            changed = {name: raw for name, raw in changed.items() if not name.startswith(which)}
    return {**changed, b"x-death": encode_array(kept)} if kept else changed


def _died_in(death: bytes) -> str:
    table = decode_table(death[1:]) if death[:1] == b"F" else {}
    return Properties(headers=table).header_text(b"queue") or ""


def _property_size(name: str, raw: bytes, at: int) -> int:
    if name == "headers":
        return 4 + int.from_bytes(_whole(raw, at, 4), "big")
    return _FIXED.get(name) or 1 + _whole(raw, at, 1)[0]


def _value_size(raw: bytes, at: int) -> int:
    letter = _whole(raw, at, 1)[0]
    if letter in _LONG:
        return 5 + int.from_bytes(_whole(raw, at + 1, 4), "big")
    if letter not in _VALUE_SIZES:
        raise ValueError(f"a value of the unknown type {letter}")
    return 1 + _VALUE_SIZES[letter]


def _whole(raw: bytes, at: int, size: int) -> bytes:
    piece = raw[at : at + size]
    if len(piece) < size:
        raise ValueError(f"{len(raw)} bytes end in the middle of a value")
    return piece
