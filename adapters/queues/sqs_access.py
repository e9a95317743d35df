"""One SQS queue as an open one uses it: how it is set up, whose box asks, by which clocks, within which limits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from adapters.queues.sqs_message import Received, read_message
from adapters.queues.sqs_places import Place, Places
from adapters.queues.sqs_service import SqsService

HIDDEN_MAX_S = 43_200
"""SQS hides a message for at most twelve hours after it was received."""


@dataclass(frozen=True)
class Limits:
    """
    What the service allows and we keep to: seconds that a message may stay hidden and be delayed, seconds between
    looks at claim queues, and how often a message is received unsettled where no redrive policy says.
    """

    cap_s: float = HIDDEN_MAX_S
    delay_max_s: float = 900.0
    look_s: float = 60.0
    receives: int = 20


@dataclass(frozen=True)
class Access:
    """``now`` is wall time; ``clock`` goes on while the box sleeps."""

    service: SqsService
    places: Places
    place: Place
    box_id: str
    now: Callable[[], float]
    clock: Callable[[], float]
    lease_s: float
    limits: Limits

    @property
    def hidden_s(self) -> int:
        """Whole seconds for which a message is hidden at a time."""
        return max(1, min(math.ceil(self.lease_s), HIDDEN_MAX_S))

    async def receive(
        self, name: str, url: str, *, wait_s: int = 1, most: int = 10, hidden_s: int = 0
    ) -> list[Received]:
        """Receive messages, hidden for the lease or for so many seconds."""
        raws = await self.service.receive(
            f"queue {name}", url, wait_s=wait_s, most=most, hidden_s=hidden_s or self.hidden_s
        )
        return [read_message(raw) for raw in raws]

    async def send(self, name: str, url: str, parameters: dict[str, Any]) -> str:
        """Send a message; return its id."""
        answer = await self.service.call("send_message", f"queue {name}", QueueUrl=url, **parameters)
        return str(answer["MessageId"])

    async def hide(self, url: str, handle: str, seconds: float) -> None:
        """Hide a received message for so many seconds from now; 0 shows it."""
        await self.service.call(
            "change_message_visibility",
            f"queue {self.place.name}",
            QueueUrl=url,
            ReceiptHandle=handle,
            VisibilityTimeout=math.ceil(seconds),
        )

    async def delete(self, url: str, handle: str) -> None:
        """Delete a received message; idempotent."""
        what = f"queue {self.place.name}"
        await self.service.call("delete_message", what, QueueUrl=url, ReceiptHandle=handle)
