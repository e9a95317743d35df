"""A claim on an SQS message: its token, which a journal keeps, and what is known of it while the runner lives."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import msgspec

from adapters.queues.sqs_message import Envelope, Received
from runner.errors import LeaseLost


def awake_clock() -> float:
    """Return seconds that go on while the box sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Token(msgspec.Struct, frozen=True):
    """What the journal keeps of a claim, as JSON; body and note stand there already. ``claimed_at`` is wall time."""

    queue: str
    claim: str
    message_id: str
    handle: str
    claimed_at: float
    envelope: Envelope


@dataclass
class Claim:
    """
    One claim that counts. ``url`` and ``handle`` are where its message is now; ``body`` is None after a restart.

    ``received_s`` counts towards the twelve hours, ``until_s`` is its deadline, ``asked_s`` when its owner claimed or
    renewed it last; all by the box's clock.
    """

    token: str
    name: Token
    envelope: Envelope
    url: str
    handle: str
    message_id: str
    received_s: float
    until_s: float
    asked_s: float
    body: bytes | None = None
    foreign: dict[str, Any] = field(default_factory=dict)
    # One change at a time: a renewal that moves it, a settlement.
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    # A change that was cut off: what was sent to the claim queue, what is still to be deleted, whether a copy was sent.
    sent: str = ""
    leftover: tuple[str, str] | None = None
    copied: bool = False

    def arrive(self, message: Received, url: str, *, asked_s: float, lease_s: float) -> None:
        """Go on with the message as it was received there."""
        self.url, self.handle, self.message_id = url, message.handle, message.message_id
        self.received_s, self.until_s = asked_s, asked_s + lease_s
        self.body, self.foreign = message.body, message.foreign
        self.envelope = told_of(message)


def told_of(message: Received) -> Envelope:
    """Return what every copy of a message says of it."""
    came = message.envelope
    return Envelope(
        submission=message.submission,
        enqueued_at=message.enqueued_at,
        note=came.note,
        job_id=came.job_id,
        user=came.user,
        group=message.group,
    )


def new_claim(queue: str, message: Received, url: str, *, now: float, asked_s: float, lease_s: float) -> Claim:
    """Claim a message that was asked for at this second."""
    short = Envelope(submission=message.submission, enqueued_at=message.enqueued_at, group=message.group)
    name = Token(queue, secrets.token_hex(8), message.message_id, message.handle, now, short)
    claim = _claim(msgspec.json.encode(name).decode(), name, url, asked_s=asked_s, lease_s=lease_s)
    claim.arrive(message, url, asked_s=asked_s, lease_s=lease_s)
    return claim


def old_claim(token: str, queue: str, url: str, *, now: float, asked_s: float, lease_s: float) -> Claim:
    """
    Read a token of an earlier life.

    Raises:
        LeaseLost: it is no token of this queue.
    """
    try:
        name = msgspec.json.decode(token, type=Token)
    except msgspec.DecodeError:
        raise LeaseLost(f"claim on queue {queue}: {token[:40]!r} is no claim on SQS") from None
    if name.queue != queue:
        raise LeaseLost(f"claim on queue {queue}: it is one on queue {name.queue}")
    claim = _claim(token, name, url, asked_s=asked_s, lease_s=lease_s)
    claim.received_s -= max(0.0, now - name.claimed_at)
    return claim


def lost(claim: Claim) -> LeaseLost:
    """Return the error for a claim that counts no longer."""
    what = f"claim on message {claim.name.message_id} of queue {claim.name.queue}"
    return LeaseLost(f"{what}: it lapsed or was settled; another box may have it")


def _claim(token: str, name: Token, url: str, *, asked_s: float, lease_s: float) -> Claim:
    return Claim(
        token=token,
        name=name,
        envelope=name.envelope,
        url=url,
        handle=name.handle,
        message_id=name.message_id,
        received_s=asked_s,
        until_s=asked_s + lease_s,
        asked_s=asked_s,
    )
