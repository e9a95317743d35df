"""The names of our own queues beside a queue, what they are declared with, and the tokens of claims. No I/O."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping

from runner.errors import ConfigurationError

RUNGS_S = (1, 2, 5, 10, 20, 40, 80, 160, 320, 600, 1800, 3600)
"""Delays that a message can wait: each is a queue of its own, since messages expire only at a queue's head."""

DAY_S = 86_400
DELIVERIES_MAX = 1 << 30
"""Looking at a message and leaving it counts as a delivery; newer brokers would give it up after 20."""

PRIORITY_MAX = 10
_CLAIM = re.compile(r"(?P<lease>\d+(\.\d+)?)-[0-9a-f]{24}")
_SERVED = re.compile(r"[a-zA-Z0-9_.:@#,/+ -]{1,180}")
"""What the client library can name; and there has to be room for the names of ours."""
_OWN = re.compile(r".+\.(claimed\.[^.]+\.\d+(\.\d+)?|later\.\d+|dead)")

Arguments = dict[str, object]


def is_own(name: str) -> bool:
    """Tell whether a queue is one of ours beside another."""
    return _OWN.fullmatch(name) is not None


def checked_name(name: str) -> str:
    """Return a queue's name; ConfigurationError where no queues of ours can stand beside it."""
    if _SERVED.fullmatch(name) is None:
        raise ConfigurationError(
            f"queue {name!r}: give it a name of up to 180 letters, digits, spaces and any of _.:@#,/+-"
        )
    if is_own(name):
        raise ConfigurationError(f"queue {name!r}: is named like one of the runner's own: name the one beside it")
    return name


def claimed_queue(queue: str, box_id: str, lease_s: float) -> str:
    """Name the queue that holds what a box claimed for so long."""
    return f"{queue}.claimed.{box_id or 'client'}.{lease_s:g}"


def dead_queue(queue: str) -> str:
    """Name the queue of the dead letters."""
    return f"{queue}.dead"


def later_queue(queue: str, after_s: float) -> tuple[str, int]:
    """Return the name of the queue for the shortest delay that is not too short, and that delay."""
    rung_s = next((rung_s for rung_s in RUNGS_S if rung_s >= after_s), RUNGS_S[-1])
    return f"{queue}.later.{rung_s}", rung_s


def new_submission() -> str:
    """Return a name for a message that has none."""
    return secrets.token_hex(12)


def new_token(lease_s: float) -> str:
    """Return a name for a claim: where it stands, and which it is."""
    return f"{lease_s:g}-{secrets.token_hex(12)}"


def token_lease_s(token: str) -> float | None:
    """Return the lease that a claim was made for; None for what is no token."""
    match = _CLAIM.fullmatch(token)
    return None if match is None else float(match["lease"])


def main_arguments(queue_type: str) -> Arguments:
    """Return what a queue that does not exist yet is declared with."""
    priorities: Arguments = {"x-max-priority": PRIORITY_MAX} if queue_type == "classic" else {}
    return {"x-queue-type": queue_type, **priorities}


def dead_arguments(queue_type: str) -> Arguments:
    """Return what the queue of dead letters is declared with."""
    return {"x-queue-type": queue_type, **_unlimited(queue_type)}


def waiting_arguments(queue_type: str, queue: str, wait_s: float) -> Arguments:
    """
    Return what a queue is declared with from which messages go home after a while.

    It goes away a day after it can last have held something. A quorum queue hands its messages over with confirmation.
    """
    sure: Mapping[str, object] = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
    return {
        "x-queue-type": queue_type,
        "x-message-ttl": round(wait_s * 1000),
        "x-expires": round((wait_s + DAY_S) * 1000),
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": queue,
        **(sure if queue_type == "quorum" else {}),
        **_unlimited(queue_type),
    }


def _unlimited(queue_type: str) -> Arguments:
    return {"x-delivery-limit": DELIVERIES_MAX} if queue_type == "quorum" else {}
