"""
How far each sink got with one job, one small file a sink beside the records; blocking.

Written in place with one call, so that a kill leaves the old content or the new one.
"""

from __future__ import annotations

import os

import msgspec

from adapters.files import OWNER_FILE, explained
from runner.ports import Cursor

LENGTH_BYTES = 128
"""Longer than any cursor: every writing replaces all of the one before."""
_ENCODE = msgspec.json.Encoder().encode
_DECODE = msgspec.json.Decoder(Cursor).decode


def load_cursor(path: str) -> Cursor | None:
    """Read a cursor; None where there is none, or where it is damaged."""
    try:
        with open(path, "rb", buffering=0) as file:
            return _DECODE(file.read(LENGTH_BYTES).rstrip())
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def keep_cursor(path: str, cursor: Cursor) -> None:
    """Write a cursor; nothing happens where the log's directory is gone."""
    with explained("noting how far a log was sent", path):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, OWNER_FILE)
        except FileNotFoundError:
            return
        try:
            os.pwrite(descriptor, _ENCODE(cursor).ljust(LENGTH_BYTES), 0)
        finally:
            os.close(descriptor)
