"""
Regular expressions that queues' names are searched for, in the syntax of RE2.

Anybody may name a queue where producers make them: with RE2 a search takes time in proportion to the name, whatever the
pattern, where the standard library's may take hours. The engine is loaded with the first pattern that is not empty.
"""

from __future__ import annotations

import functools
from typing import Protocol

PROGRAM_MAX = 2_000
"""States of a pattern; one search passes each of them at most once for each byte of a name."""
VERDICTS_KEPT = 1 << 16
"""Names are listed again every few seconds."""


class Pattern(Protocol):
    """A compiled one."""

    @property
    def programsize(self) -> int:
        """How many states it has."""
        ...

    def search(self, text: bytes) -> object:
        """Return where it was found, None where it was not."""
        ...


def problem(pattern: str) -> str:
    """Say what is wrong with a pattern, "" where nothing is."""
    if not pattern:
        return ""
    import re2

    try:
        size = _compiled(pattern).programsize
    except UnicodeEncodeError:
        return "it is no text"
    except re2.error as error:
        return str(error.args[0], errors="replace")
    return "it is too large" if size > PROGRAM_MAX else ""


def finds(match: str, mismatch: str, name: str) -> bool:
    """Tell whether patterns without problems let a name pass; an empty one says nothing."""
    return (not match or _finds(match, name)) and not (mismatch and _finds(mismatch, name))


@functools.lru_cache(maxsize=VERDICTS_KEPT)
def _finds(pattern: str, name: str) -> bool:
    return _compiled(pattern).search(name.encode()) is not None


@functools.lru_cache
def _compiled(pattern: str) -> Pattern:
    import re2

    options = re2.Options()
    options.log_errors, options.never_capture = False, True
    compiled: Pattern = re2.compile(pattern, options)
    return compiled
