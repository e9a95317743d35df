"""
The fence before anything is stored: whether the claim is still ours.

Results that another box's may follow must not stand where those will; so the poller renews the claim first.
"""

from __future__ import annotations

import asyncio

from runner.directory import Directory
from runner.job import Key
from runner.kernel import Ref
from runner.messages import LeaseCheck, LeaseChecked, RestChanged
from runner.records import ClaimedJob

ASK_AGAIN_S = 30.0
AWAY_S = 1.0
HEARD_S = 0.1
"""Inventory has heard of it by then, or has let somebody be alone before, and that is known here."""


class Fence:
    """Asks the pollers, one question a job at a time."""

    def __init__(self, directory: Directory, inventory: Ref[RestChanged]) -> None:
        """Begin without questions."""
        self._directory, self._inventory = directory, inventory
        # Jobs that wait to hear from their poller.
        self._asked: dict[Key, asyncio.Future[bool]] = {}

    async def is_held(self, claim: ClaimedJob) -> bool:
        """Have the claim renewed; while its poller is away, the job waits here, since unfenced results may be wrong."""
        waiting = self._asked[claim.key] = asyncio.get_running_loop().create_future()
        rests = False
        try:
            while True:
                entry = self._directory.find(claim.queue)
                if entry is not None:
                    entry.poller.urgent(LeaseCheck(claim.key))
                done, _ = await asyncio.wait({waiting}, timeout=ASK_AGAIN_S if entry is not None else AWAY_S)
                if done:
                    break
                rests = rests or self._tell(claim, rests=True)
            if rests:
                self._tell(claim, rests=False)
                await asyncio.sleep(HEARD_S)
            return bool(waiting.result())
        finally:
            del self._asked[claim.key]

    def _tell(self, claim: ClaimedJob, *, rests: bool) -> bool:
        self._inventory.urgent(RestChanged(claim.key, claim.claimed_at, rests))
        return True

    def answered(self, message: LeaseChecked) -> None:
        """Let the job that asked go on."""
        waiting = self._asked.get(message.key)
        if waiting is not None and not waiting.done():
            waiting.set_result(message.held)
