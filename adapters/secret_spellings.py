"""
How a secret may stand in a text: as it is, in base64, in a URL, in JSON; line by line, and long lines in pieces.

Base64 stands inside of longer base64 in three ways, as its first byte falls; only the characters that the value alone
decides are looked for. Pure.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

SHORTEST_BYTES = 6
"""Of what is covered; anything shorter would put stars over half of a log."""
PIECE_BYTES = 256
_WRAPPED_AT = (64, 76)
"""Columns at which programs break base64 into lines."""
_FRAME = re.compile(rb"-----(BEGIN|END) [A-Z0-9 ]+-----")
"""Lines of keys and certificates that are the same for all."""
_ESCAPE = re.compile(r"%[0-9A-F]{2}")


def spellings(values: Iterable[bytes]) -> frozenset[bytes]:
    """Return what is looked for: at least 6 and at most 256 bytes each, none with a line end in it."""
    found: set[bytes] = set()
    for value in values:
        found.update(piece for text in _texts(value) for piece in _pieces(text))
    return frozenset(found)


def _texts(value: bytes) -> Iterator[bytes]:
    value = value.strip(b"\r\n")
    lines = [line for line in value.splitlines() if len(line) >= SHORTEST_BYTES and not _FRAME.fullmatch(line)]
    for line in lines:
        yield line
        yield from _in_urls(line)
        yield from _in_json(line)
    if lines:
        yield from _in_base64(value)


def _pieces(text: bytes) -> Iterator[bytes]:
    """Cut a long text; its end is looked for with what stands before it where it would be too short alone."""
    for at in range(0, len(text), PIECE_BYTES):
        piece = text[at : at + PIECE_BYTES]
        if len(piece) >= SHORTEST_BYTES:
            yield piece
        elif at:
            yield text[-SHORTEST_BYTES:]


def _in_base64(value: bytes) -> Iterator[bytes]:
    for shift in range(3):
        begins, bits = -(-8 * shift // 6), 8 * (shift + len(value))
        text = base64.b64encode(bytes(shift) + value)[begins : bits // 6]
        yield from _both_alphabets(text)
    text = base64.b64encode(value)[: 8 * len(value) // 6]
    for width in _WRAPPED_AT:
        for at in range(0, len(text), width) if len(text) > width else ():
            yield text[at : at + width]


def _both_alphabets(text: bytes) -> tuple[bytes, bytes]:
    return text, text.translate(bytes.maketrans(b"+/", b"-_"))


def _in_urls(line: bytes) -> Iterator[bytes]:
    for text in (quote(line), quote(line, safe=""), quote(line, safe="!'()*"), quote_plus(line)):
        yield text.encode()
        yield _ESCAPE.sub(lambda found: found.group().lower(), text).encode()


def _in_json(line: bytes) -> Iterator[bytes]:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return
    for is_ascii in (True, False):
        yield json.dumps(text, ensure_ascii=is_ascii)[1:-1].encode()
