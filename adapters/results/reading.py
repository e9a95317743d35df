"""Reads what stands in a result backend, which others can write to, too: what nobody can read is left out and told."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TypeVar

import msgspec

T = TypeVar("T")

log = logging.getLogger(__name__)


def read(content: bytes | None, kind: type[T]) -> T | None:
    """Return a document; None where none stands, or nobody can read it."""
    if not content:
        return None
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        extra = {"action": "result_ignored", "kind": kind.__name__, "bytes": len(content), "error": str(error)}
        log.warning("what stands in a result backend cannot be read", extra=extra)
        return None


def read_all(contents: Iterable[bytes | None], kind: type[T]) -> list[T]:
    """Return those documents that can be read."""
    return [found for content in contents if (found := read(content, kind)) is not None]
