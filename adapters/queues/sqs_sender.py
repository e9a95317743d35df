"""
Sends messages and their copies into one queue, and into those beside it.

SQS delays a message for at most 15 minutes, and in a FIFO queue not at all: what is due later says when, and whoever
receives it early puts it off again. A copy in a FIFO queue stays in its group, behind what waits there already.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import msgspec

from adapters.queues.sqs_access import Access
from adapters.queues.sqs_message import Envelope, encode_body, packed
from runner.errors import BadInput
from runner.job import Note

GROUP = "runner"
"""What is put into a FIFO queue without a group comes in one order."""

log = logging.getLogger(__name__)


class Sender:
    """Sends into one queue; ``now`` is wall time."""

    def __init__(self, access: Access) -> None:
        self._access, self._place, self._now = access, access.place, access.now
        self._delay_max_s = access.limits.delay_max_s

    async def put(self, body: bytes, envelope: Envelope) -> None:
        """
        Send a new message; its delay is the queue's own.

        Raises:
            BadInput: the queue does not take it.
        """
        sent = packed(body, envelope, {}, self._place.limit_bytes)
        ordered = _ordered(GROUP, envelope.submission) if self._place.fifo else {}
        await self._access.send(self._place.name, self._place.url, {**sent, **ordered})

    async def copy(
        self, body: bytes, envelope: Envelope, foreign: Mapping[str, Any], *, after_s: float, unique: str
    ) -> None:
        """
        Send a copy that is received after so many seconds; the same ``unique`` twice is one in a FIFO queue.

        Raises:
            BadInput: it does not fit into the queue with what stands beside it now.
        """
        delay_s = 0 if self._place.fifo else math.ceil(min(after_s, self._delay_max_s))
        due_at = self._now() + after_s if after_s > delay_s else 0.0
        sent = _fitted(body, msgspec.structs.replace(envelope, due_at=due_at), foreign, self._place.limit_bytes)
        beside = _ordered(envelope.group or GROUP, unique) if self._place.fifo else {"DelaySeconds": delay_s}
        await self._access.send(self._place.name, self._place.url, {**sent, **beside})

    async def bury(
        self, name: str, url: str, body: bytes, envelope: Envelope, foreign: Mapping[str, Any], *, unique: str
    ) -> None:
        """Send a dead letter; each is a group of its own, so that all can be looked at."""
        try:
            sent = _fitted(body, envelope, foreign, self._place.limit_bytes)
        except BadInput:
            log.warning("a dead letter is too large for its reason", extra={"action": "reject", "queue": name})
            sent = {"MessageBody": encode_body(body, "") or encode_body(body, "base64")}
        beside = _ordered(unique, unique) if name.endswith(".fifo") else {}
        await self._access.send(name, url, {**sent, **beside})


def _ordered(group: str, unique: str) -> dict[str, str]:
    return {"MessageGroupId": group, "MessageDeduplicationId": unique}


def _fitted(body: bytes, envelope: Envelope, foreign: Mapping[str, Any], limit_bytes: int) -> dict[str, Any]:
    """Pack a copy, without the details of its past where they do not fit."""
    try:
        return packed(body, envelope, dict(foreign), limit_bytes)
    except BadInput:
        note = envelope.note
        short = Note(attempts=note.attempts, faults=note.faults, starts=note.starts, releases=note.releases)
        return packed(body, msgspec.structs.replace(envelope, note=short), {}, limit_bytes)
