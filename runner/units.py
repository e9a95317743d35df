"""
Durations and sizes as people write them, and the one place that reads and prints them.

Both are plain numbers once decoded (seconds, bytes), so that arithmetic needs no conversion; msgspec sees
them as custom types through :func:`decode_hook`.
"""

from __future__ import annotations

import re
from typing import Any

_DURATION_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtpe]?)(i?)b?", re.IGNORECASE)
_POWERS = {letter: power for power, letter in enumerate(["", "k", "m", "g", "t", "p", "e"])}


class Duration(float):
    """Seconds; written as ``"90s"``, ``"1h30m"``, ``"250ms"``, or a bare number of seconds."""

    __slots__ = ()


class Size(int):
    """Bytes; written as ``"4GiB"`` (powers of 1024), ``"4GB"`` (powers of 1000), or a bare number of bytes."""

    __slots__ = ()


def parse_duration(value: object) -> Duration:
    """
    Read a duration.

    Raises:
        ValueError: anything but a non-negative number of seconds or a string like ``"1h30m"``.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(_bad("duration", value, '"90s", "30m" or "1h30m"'))  # noqa: TRY004 - one error for all
    if not isinstance(value, str):
        return _non_negative_duration(value)
    text = value.strip()
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(_bad("duration", value, '"90s", "30m" or "1h30m"'))
    return Duration(sum(float(number) * _DURATION_S[unit] for number, unit in parts))


def _non_negative_duration(value: float) -> Duration:
    if not 0 <= value < float("inf"):
        raise ValueError(_bad("duration", value, "a number of seconds from 0 up"))
    return Duration(value)


def parse_size(value: object) -> Size:
    """
    Read a size.

    Raises:
        ValueError: anything but a non-negative number of bytes or a string like ``"4GiB"``.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return Size(value)
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(_bad("size", value, '"512MiB", "4GiB" or a number of bytes'))
    number, letter, binary = match.groups()
    return Size(float(number) * (1024 if binary else 1000) ** _POWERS[letter.lower()])


def _bad(what: str, value: object, example: str) -> str:
    return f"{value!r} is no {what}: write {example}"


def format_duration(seconds: float) -> str:
    """Write seconds the way people say them: ``0.42 s``, ``9.8 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 100:  # noqa: PLR2004 - below this a person wants tenths
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:  # noqa: PLR2004 - minutes an hour
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def format_size(size: float) -> str:
    """Write bytes in powers of 1024 with at most one decimal: ``812 B``, ``1.5 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":  # noqa: PLR2004 - the step between units
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"  # noqa: PLR2004


def decode_hook(kind: type, value: object) -> object:
    """Decode the custom types for ``msgspec.convert`` and ``msgspec.*.decode``."""
    if kind is Duration:
        return parse_duration(value)
    if kind is Size:
        return parse_size(value)
    raise NotImplementedError(kind)


def schema_hook(kind: type) -> dict[str, Any]:
    """Describe the custom types for ``msgspec.json.schema``."""
    if kind is Duration:
        return {"type": ["string", "number"], "description": 'seconds, or text like "90s" or "1h30m"', "minimum": 0}
    if kind is Size:
        return {"type": ["string", "integer"], "description": 'bytes, or text like "4GiB"', "minimum": 0}
    raise NotImplementedError(kind)


def encode_hook(value: object) -> object:
    """Encode the custom types as plain numbers."""
    if isinstance(value, Size):
        return int(value)
    if isinstance(value, Duration):
        return float(value)
    raise NotImplementedError(type(value))
