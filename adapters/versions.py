"""
Versions of packages and programs: which one is newer, and what of a distribution's version is the program's own. Pure.

A distribution mends an old version and keeps its number, so ``1.1.5+ds1-1+deb12u1`` is runc 1.1.5 with what Debian 12
added. Ordered as dpkg orders: an epoch first, digits as numbers, ``~`` before the end, letters before all else.
"""

from __future__ import annotations

import re
from itertools import zip_longest

_PARTS = re.compile(r"([^0-9]*)([0-9]*)")
_END: tuple[tuple[int, ...], int] = ((0,), 0)
_REPACKED = re.compile(r"[+~](?:ds|dfsg|git|dev|azure|debian|repack)[0-9.]*.*")
_SERIES = (re.compile(r"deb(\d+)u\d+"), re.compile(r"ubuntu[\d.]*~(\d\d\.\d\d)"))
_AFTER_LETTERS = 256


def compare(ours: str, theirs: str) -> int:
    """Return less than 0, 0 or more than 0 as ``ours`` is older than, equal to or newer than ``theirs``."""
    for left, right in zip(_split(ours), _split(theirs), strict=True):
        found = _compare_part(left, right)
        if found:
            return found
    return 0


def _split(version: str) -> tuple[str, str, str]:
    """Return epoch, upstream version and revision."""
    epoch, colon, rest = version.strip().rpartition(":")
    upstream, dash, revision = rest.rpartition("-")
    return (epoch if colon else "0", upstream if dash else rest, revision if dash else "0")


def _compare_part(ours: str, theirs: str) -> int:
    for left, right in zip_longest(_steps(ours), _steps(theirs), fillvalue=_END):
        if left != right:
            return -1 if left < right else 1
    return 0


def _steps(part: str) -> list[tuple[tuple[int, ...], int]]:
    return [((*map(_rank, text), 0), int(digits or 0)) for text, digits in _PARTS.findall(part)]


def _rank(letter: str) -> int:
    if letter == "~":
        return -1
    return ord(letter) if letter.isalpha() else ord(letter) + _AFTER_LETTERS


def program(version: str) -> str:
    """Return the program's own version, in the order of this module: ``v1.4.0-rc.3`` is ``1.4.0~rc3``."""
    text = version.strip().rpartition(":")[2].removeprefix("v")
    text = re.sub(r"-(?=(rc|beta|alpha))", "~", text)
    if "-" in text:
        text = text.rpartition("-")[0]
    text = text.partition("+really")[2] or text
    return re.sub(r"(rc|beta|alpha)\.", r"\1", _REPACKED.sub("", text))


def upstream(version: str) -> str:
    """Return what stands before a package's own revision, repacked or not: ``1.1.5+ds1``."""
    return _split(version)[1]


def revision(version: str) -> str:
    """Return a package's own revision, "" where it has none."""
    return _split(version)[2] if "-" in version else ""


def series(version: str) -> str:
    """Return the release of a distribution that a version was made for: ``deb12``, ``22.04``; "" where it says none."""
    debian, ubuntu = (pattern.search(version) for pattern in _SERIES)
    return f"deb{debian[1]}" if debian else (ubuntu[1] if ubuntu else "")


def is_version(text: str) -> bool:
    """Tell whether a text is a version at all."""
    return re.match(r"\d+\.\d", program(text)) is not None


def is_plain(version: str) -> bool:
    """Tell whether it may be a program's own number, without anything of a distribution."""
    return re.fullmatch(r"v?\d+(\.\d+)+([-~]?rc\.?\d+)?", version.strip()) is not None
