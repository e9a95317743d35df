"""Records of a log as JSON: the one shape for programs, on a terminal as on a channel or in a file."""

from __future__ import annotations

from base64 import b64encode

import msgspec

from runner.ports import LogLine
from runner.receipt import Event
from runner.units import encode_hook

_ENCODE = msgspec.json.Encoder(enc_hook=encode_hook).encode


def log_json(told: Event | LogLine) -> bytes:
    """
    Write a record or a state change as one line of JSON, without a newline.

    Bytes that are not UTF-8 are replaced in ``text``; such a record has ``data`` as well, all of it as base64.
    """
    if not isinstance(told, LogLine):
        return _ENCODE({"event": told})
    place = {"attempt": told.attempt, "sequence": told.sequence, "at": told.at_ns / 1e9, "stream": told.stream}
    try:
        return _ENCODE({**place, "text": told.data.decode()})
    except UnicodeDecodeError:
        replaced = told.data.decode("utf-8", "replace")
        return _ENCODE({**place, "text": replaced, "data": b64encode(told.data).decode()})
