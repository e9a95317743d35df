"""
One open queue with its result backend, and the calls that its poller makes of them, each within its time.

Decides nothing. The claims that came from it stand in ``leases``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from actors.poller.leases import Leases
from runner.allowance import Allowance
from runner.calls import Caller
from runner.config import Config
from runner.errors import RunnerError
from runner.ports import Delivery, Queue, Results
from runner.receipt import Receipt
from runner.records import ClaimedJob
from runner.trail import Trail

LONG_POLL_S = 20.0
BRIEFLY_S = 1.0


@dataclass(eq=False)
class OpenQueue:
    """What work on one queue needs; its poller closes the queue, and nobody the results here. ``now`` is wall time."""

    queue: Queue
    results: Results | None
    leases: Leases
    caller: Caller
    trail: Trail
    now: Callable[[], float]
    allowance: Allowance
    trouble: str = ""

    async def fetch(self, served: Mapping[str, float], *, brief: bool = False) -> Delivery | None:
        """
        Wait for one delivery; a long poll is not cut off by anything but its own limit.

        Where a user is passed over, that is short: their turn may come at any moment; ``brief``: as is another queue's.
        """
        brief |= self.queue.by_user and math.inf in served.values()
        wait_s = BRIEFLY_S if brief else LONG_POLL_S
        limit_s = wait_s + self.caller.patience.try_s
        return await self.caller.once(lambda: self.queue.fetch(wait_s, served), "fetch", try_s=limit_s)

    async def depth(self) -> int:
        """Count what waits."""
        return await self.caller.once(self.queue.depth, "depth of the queue")

    async def withdraw(self, job_id: str) -> tuple[Delivery, ...]:
        """
        Claim what waits under this id, with a stop mark: it ends also if this process is killed before that is stored.
        """
        found = await self.caller.once(lambda: self.queue.withdraw(job_id), f"withdrawal of {job_id}")
        results = self.results
        if found and results is not None:
            await self.caller.once(lambda: results.request_stop(job_id), f"stop mark of {job_id}")
        return found

    async def stop_marks(self, *, within_s: float = math.inf) -> frozenset[str]:
        """Return the ids of jobs to be stopped; none where they cannot be read now, for they are read again."""
        within_s = min(within_s, self.caller.patience.try_s)
        if self.results is None:
            return frozenset()
        try:
            marked = await self.caller.once(self.results.stops, "stop marks", try_s=within_s)
        except RunnerError as error:
            self.trouble = f"its results are out of reach: {error}"
            return frozenset()
        self.trouble = ""
        return marked

    @property
    def warning(self) -> str:
        """What a person should know of this queue and its results."""
        return "; ".join(text for text in (self.queue.warning, self.trouble) if text)

    async def standing_receipt(self, claim: ClaimedJob) -> Receipt | None:
        """Return the receipt of this attempt; a backend that is away is asked again before anything is stored."""
        results = self.results
        if results is None:
            return None
        try:
            stored = await self.caller.once(lambda: results.get(claim.key), f"receipt of {claim.key}")
        except RunnerError:
            return None
        return stored if stored is not None and stored.attempt == claim.attempt else None

    async def prune(self, config: Config) -> None:
        """Delete what was kept long enough of this queue's: dead letters, and what its result backend holds."""
        now = self.now()
        await self.queue.prune(now - config.keep_dead)
        if self.results is not None:
            await self.results.prune(now - config.keep_results)
