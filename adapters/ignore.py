"""
What stays behind when a directory is packed: the lines of its ``.runnerignore``.

A part of what git understands:

========== ========================================================================
line       meaning
========== ========================================================================
``# …``    a comment; empty lines count as one
``*.ckpt`` a name at any depth, with ``*``, ``?`` and ``[…]``
``/data``  with a slash inside or in front: a path from the packed directory; ``**``
           stands for any directories
``out/``   with a slash behind: directories only
``!line``  takes back what an earlier line left out
========== ========================================================================

The last line that fits counts. What lies in a directory that is left out stays behind with it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

IGNORE_FILE = ".runnerignore"
ALWAYS = (".git/", ".venv/", "__pycache__/")
"""Left out first, so that a line of one's own can take it back."""


@dataclass(frozen=True)
class _Rule:
    parts: tuple[str, ...]
    keeps: bool
    directories_only: bool
    anywhere: bool

    def fits(self, parts: Sequence[str], *, is_directory: bool) -> bool:
        if self.directories_only and not is_directory:
            return False
        return _fit(self.parts, tuple(parts[-1:]) if self.anywhere else tuple(parts))


class Ignore:
    """The rules of one directory."""

    def __init__(self, lines: Iterable[str] = ()) -> None:
        read = (_rule(line.rstrip()) for line in (*ALWAYS, *lines))
        self._rules = tuple(rule for rule in read if rule is not None)

    def leaves_out(self, parts: Sequence[str], *, is_directory: bool) -> bool:
        """Tell whether a path below the packed directory stays behind."""
        fitting = (rule for rule in reversed(self._rules) if rule.fits(parts, is_directory=is_directory))
        last = next(fitting, None)
        return last is not None and not last.keeps


def _rule(line: str) -> _Rule | None:
    if not line or line.startswith("#"):
        return None
    keeps, pattern = line.startswith("!"), line.removeprefix("!")
    parts = tuple(part for part in pattern.split("/") if part)
    if not parts:
        return None
    return _Rule(parts, keeps, pattern.endswith("/"), anywhere="/" not in pattern.rstrip("/"))


def _fit(pattern: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_fit(pattern[1:], parts[index:]) for index in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _fit(pattern[1:], parts[1:])
