"""
What the names of a folder queue's files say; pure.

| directory | name | a rename away from it |
| --- | --- | --- |
| ``ready`` | ``<message>`` | claims it |
| ``claimed`` | ``<message>~<lapses at>~<claim>`` | renews, settles or, once lapsed, takes it up again |
| ``later`` | ``<due at>~<message>`` | makes it wait again |
| ``dead`` | ``<rejected at>~<message>`` | retries it |

``<message>`` is ``<rank>-<enqueued at>-<submission>-<user>-<job id>``: sorted as text, the highest priority comes
first, then the oldest. Times are microseconds since the epoch in 16 digits, so names sort by them.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from functools import lru_cache

from runner.job import safe_name

PRIORITY_LIMIT = 999_999_999
DELAY_MAX_S = 10 * 365 * 86_400.0
_MESSAGE = re.compile(r"(\d{10})-(\d{16})-([0-9a-f]{24})-([0-9a-f]{8})-((?:[A-Za-z0-9][A-Za-z0-9._-]{0,127})?)")
_TIME = re.compile(r"\d{16}")


@dataclass(frozen=True)
class Message:
    """
    One message by its name; ``job`` is the id as a file name, empty where nobody told it. ``anonymous``: nor a user.
    """

    name: str
    enqueued_at: float
    submission: str
    job: str
    anonymous: bool = False


def name_message(*, priority: int, at: float, submission: str, user: str, job_id: str) -> str:
    """Return the name of a new message; priorities beyond a billion count as a billion."""
    rank = PRIORITY_LIMIT + 1 - max(-PRIORITY_LIMIT, min(PRIORITY_LIMIT, priority))
    job = safe_name(job_id) if job_id else ""
    return f"{rank:010d}-{_time(at)}-{submission}-{user_tag(user)}-{job}"


def retried_name(name: str, at: float) -> str:
    """Return the name of the same message as a new submission."""
    rank, _, _, user, job = name.split("-", 4)
    return f"{rank}-{_time(at)}-{secrets.token_hex(12)}-{user}-{job}"


def read_message(name: str) -> Message | None:
    """Read a message's name; None where it is none of ours."""
    match = _MESSAGE.fullmatch(name)
    if match is None:
        return None
    return Message(name, int(match[2]) / 1e6, match[3], match[5], match[4] == user_tag(""))


def rank_of(name: str) -> str:
    """Return what sorts messages by priority, the highest first."""
    return name[:10]


def tag_of(name: str) -> str:
    """Return the tag of a message's user."""
    return name[53:61]


def is_message(name: str) -> bool:
    """Tell whether a name is one of ours."""
    return _MESSAGE.fullmatch(name) is not None


def claim_name(token: str, lapses_at: float) -> str:
    """Return the name of a claimed message; the token is ``<message>~<claim>``."""
    message, _, claim = token.rpartition("~")
    return f"{message}~{_time(lapses_at)}~{claim}"


def read_claim(name: str) -> tuple[str, float] | None:
    """Return the token of a claimed file and when it lapses; None for a foreign name."""
    message, _, rest = name.partition("~")
    lapse, _, claim = rest.partition("~")
    if not claim or not _TIME.fullmatch(lapse):
        return None
    return f"{message}~{claim}", int(lapse) / 1e6


def stamped_name(at: float, message: str) -> str:
    """Return the name of a message in ``later`` (due at) or ``dead`` (rejected at)."""
    return f"{_time(at)}~{message}"


def read_stamped(name: str) -> tuple[float, str] | None:
    """Return time and message of a stamped name; None for a foreign one."""
    stamp, _, message = name.partition("~")
    return (int(stamp) / 1e6, message) if message and _TIME.fullmatch(stamp) else None


def token_message(token: str) -> str:
    """Return the message that a token claims."""
    return token.rpartition("~")[0]


def _time(at: float) -> str:
    return f"{max(0, min(9_999_999_999_999_999, round(at * 1e6))):016d}"


@lru_cache(maxsize=16_384)
def user_tag(user: str) -> str:
    """Tell users apart without writing them down: messages of one user carry one tag."""
    return hashlib.sha256(user.encode("utf-8", "backslashreplace")).hexdigest()[:8]
