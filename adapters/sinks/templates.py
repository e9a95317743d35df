"""Names with ``{id}``, ``{key}`` and ``{queue}`` in them, and what a job makes of them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

_NAME = re.compile(r"\{(queue|key|id)\}")


def fill(template: str, values: Mapping[str, str]) -> str:
    """Put values in; what a value holds is never looked at again."""
    return _NAME.sub(lambda found: values[found[1]], template)


def unknown_braces(template: str) -> bool:
    """Tell whether braces stand there that mean nothing."""
    return bool(re.search(r"[{}]", _NAME.sub("", template)))


def is_per_job(template: str) -> bool:
    """Tell whether every job has one of its own."""
    return "{id}" in template or "{key}" in template
