"""
Our own queues beside one that we serve: what is claimed by this box, what waits for a retry, the dead letters.

Each is looked for first and made only where it is missing, so that whoever may not make queues can be given them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from adapters.queues.rabbitmq_link import Link
from adapters.queues.rabbitmq_names import (
    claimed_queue,
    dead_arguments,
    dead_queue,
    later_queue,
    main_arguments,
    waiting_arguments,
)
from adapters.queues.rabbitmq_trouble import QueueMissing

SURE_S = 3600.0
"""One that was there an hour ago is there: they go away a day after their last use."""

FIRM_S = 1.5
"""A quorum queue that is younger does not come up again where its node is killed (measured: 0.3 s; RabbitMQ 3.10)."""

QUORUM_TTL_SINCE = (3, 10)


class OwnQueues:
    """Those beside one queue, for one box and one lease. ``link`` may be replaced at any time."""

    def __init__(self, queue: str, link: Link, *, box_id: str, lease_s: float) -> None:
        self.queue, self.link, self._box_id, self._lease_s = queue, link, box_id, lease_s
        self.claimed = claimed_queue(queue, box_id, lease_s)
        # When each was seen last, in loop seconds.
        self._seen: dict[str, float] = {}
        # When those that were made here can be relied on, in loop seconds.
        self._firm_at: dict[str, float] = {}

    def claimed_for(self, lease_s: float) -> str:
        """Name the queue of this box's claims under another lease."""
        return claimed_queue(self.queue, self._box_id, lease_s)

    async def ready_main(self) -> None:
        """Make the queue itself where there is none."""
        await self._ready(self.queue, main_arguments(self.link.address.queue_type))

    async def ready_claimed(self) -> str:
        """Return the name of the queue for what this box claims, once it is there."""
        return await self._ready(self.claimed, await self._waiting(self._lease_s))

    async def ready_later(self, after_s: float) -> str:
        """Return where a message waits so long: in the queue itself where that is no time at all."""
        if after_s <= 0:
            return self.queue
        name, rung_s = later_queue(self.queue, after_s)
        return await self.firm(await self._ready(name, await self._waiting(rung_s)))

    async def ready_dead(self) -> str:
        """Return the name of the queue of dead letters, once it is there."""
        return await self.firm(await self._ready(dead_queue(self.queue), dead_arguments(await self._type())))

    async def firm(self, name: str) -> str:
        """Wait until a queue that was made just now can be relied on; return its name."""
        left_s = self._firm_at.get(name, 0.0) - asyncio.get_running_loop().time()
        if left_s > 0:
            await asyncio.sleep(left_s)
        self._firm_at.pop(name, None)
        return name

    async def is_missing(self, name: str) -> bool:
        """Look whether a queue went away that was there."""
        self._seen.pop(name, None)
        try:
            await self.link.count(name)
        except QueueMissing:
            return True
        return False

    async def _ready(self, name: str, arguments: Mapping[str, object]) -> str:
        clock = asyncio.get_running_loop().time
        if clock() - self._seen.get(name, -SURE_S) >= SURE_S:
            made = await self.link.ensure(name, arguments)
            self._seen[name] = clock()
            if made and arguments["x-queue-type"] == "quorum":
                # No claim is to lapse over it.
                self._firm_at[name] = clock() + min(FIRM_S, self._lease_s / 3)
        return name

    async def _waiting(self, wait_s: float) -> Mapping[str, object]:
        return waiting_arguments(await self._type(), self.queue, wait_s)

    async def _type(self) -> str:
        """Return the type of our own queues: a quorum one can let messages expire only on newer brokers."""
        version = str((await self.link.server()).get("version", "")).split(".")[:2]
        old = all(part.isdigit() for part in version) and tuple(map(int, version)) < QUORUM_TTL_SINCE
        return "classic" if old else self.link.address.queue_type
