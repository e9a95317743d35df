"""
Verdicts that stand in the journal, carried out on the queue: each once, by whoever comes first, also after a restart.

A claim that was lost meanwhile is somebody else's to settle, and no error.
"""

from __future__ import annotations

import asyncio
import logging
from weakref import WeakValueDictionary

import msgspec

from actors.poller.leases import Held
from actors.poller.open_queue import OpenQueue
from runner.errors import LeaseLost, RunnerError
from runner.job import Decision, Key, Verdict
from runner.ports import Delivery
from runner.records import JournalEntry, SettleRecord

logger = logging.getLogger(__name__)

REFUSED_S = 30.0


class Settling:
    """Settles the claims of one queue."""

    def __init__(self, opened: OpenQueue) -> None:
        """Begin with nobody at work."""
        self._opened = opened
        self._locks: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()

    def alone_with(self, key: Key) -> asyncio.Lock:
        """Keep taking and settling one job apart, so that no record falls on the wrong claim."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock

    async def settle(self, key: Key) -> JournalEntry | None:
        """Carry out the verdict that stands in the journal; None where none stands, or it was carried out before."""
        opened = self._opened
        async with self.alone_with(key):
            entry = await opened.trail.entry(key)
            if entry is None or entry.stored is None or entry.settled is not None:
                return None
            held = opened.leases.held.get(key)
            if held is not None and entry.stored.decision is not None:
                await self.carry_out(held, entry.stored.decision)
            await opened.trail.record(key, SettleRecord(opened.now()))
            opened.leases.forget(key)
            return entry

    async def carry_out(self, held: Held, decision: Decision) -> None:
        """Tell the queue, for as long as it takes: one that refuses must be mended by a person."""
        settle = lambda: self._opened.queue.settle(  # noqa: E731 - one call, named
            held.token, decision.verdict, after_s=decision.after_s, note=decision.note, reason=decision.note.last_reason
        )
        while True:
            try:
                await self._opened.caller.until_done(settle, f"settlement of {held.job_id}")
            except LeaseLost:
                facts = {"action": "settle", "job_id": held.job_id}
                logger.warning("a claim was lost before it was settled", extra=facts)
            except RunnerError as error:
                facts = {"action": "settle", "job_id": held.job_id, "reason": str(error)}
                logger.error("a queue refuses a settlement; it is tried again", extra=facts)
                await asyncio.sleep(REFUSED_S)
                continue
            return

    async def put_off(self, delivery: Delivery, after_s: float, reason: str) -> None:
        """
        Give a delivery back as it came; it goes back by itself after a lease.

        Raises:
            RunnerError: it was refused, or the queue was away for so long.
        """
        release = lambda: self._opened.queue.settle(  # noqa: E731 - one call, named
            delivery.token, Verdict.RELEASE, after_s=after_s, note=delivery.note, reason=reason
        )
        caller, lease_s = self._opened.caller, self._opened.queue.lease_s
        patience = msgspec.structs.replace(caller.patience, all_s=lease_s)
        await caller.until_done(release, f"release of {delivery.submission}", patience)
