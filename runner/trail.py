"""
What is written of a job on its way: its records in the journal, the runner's own lines in its log.

A record is written for as long as it takes, before the world is touched; a line is a courtesy that never fails a job.
"""

from __future__ import annotations

import logging
import math

import msgspec

from runner.calls import Caller
from runner.errors import RunnerError
from runner.job import Key
from runner.ports import World
from runner.receipt import Event, JobRow
from runner.records import ClaimedJob, JournalEntry, JournalRecord

logger = logging.getLogger(__name__)


class Trail:
    """The journal and the spool of all jobs, as one stage of the ring uses them."""

    def __init__(self, world: World, caller: Caller) -> None:
        """Keep what to write with."""
        self._world, self._caller = world, caller

    async def record(self, key: Key, record: JournalRecord, *, within_s: float = math.inf) -> None:
        """
        Write to the journal, for as long as it takes.

        Raises:
            OutOfSpace, Unavailable: it took longer than ``within_s``.
        """
        patience = self._caller.patience
        if within_s < patience.all_s:
            patience = msgspec.structs.replace(patience, all_s=within_s)
        await self._caller.until_done(lambda: self._world.journal.append(key, record), f"journal of {key}", patience)

    async def entry(self, key: Key) -> JournalEntry | None:
        """Read what the journal knows of a job, for as long as it takes; None where it knows nothing."""
        return await self._caller.until_done(lambda: self._world.journal.entry(key), f"journal of {key}")

    async def in_flight(self) -> tuple[JournalEntry, ...]:
        """Read every job that is not settled, for as long as it takes."""
        return await self._caller.until_done(self._world.journal.in_flight, "journal")

    async def queues_of(self, source: str, queue_name: str) -> frozenset[str]:
        """Return what queues the jobs are from that came through this file, under this name, and are not settled."""
        claims = [entry.claimed.claim for entry in await self.in_flight()]
        return frozenset(it.queue for it in claims if (it.source, it.queue_name) == (source, queue_name))

    async def say(self, claim: ClaimedJob, text: str) -> None:
        """Add a line of the runner's own to the job's log."""
        await self._append(claim, "runner", (await self.covered(text)).encode() + b"\n")

    async def covered(self, text: str) -> str:
        """Return a text without the box's secrets; nothing of it where they cannot be found out."""
        try:
            return await self._caller.once(lambda: self._world.redact(text), "secrets of this box")
        except RunnerError as error:
            return f"(not shown, since it could not be searched for secrets: {error})"

    async def tell_state(self, claim: ClaimedJob, state: str, message: str = "") -> None:
        """Add a state change to the job's spool, for those who follow it elsewhere."""
        facts = {"action": state, "job_id": claim.id, "attempt": claim.attempt, "queue": claim.queue_name}
        logger.info("job %s", state, extra=facts)
        message, row = await self.covered(message), _first_row(claim, state)
        event = Event(claim.key, claim.id, self._world.now(), state, claim.attempt, message, row=row)
        await self._append(claim, "event", msgspec.json.encode(event))

    async def _append(self, claim: ClaimedJob, stream: str, data: bytes) -> None:
        append = lambda: self._world.spool.append(claim.key, claim.attempt, stream, data)  # noqa: E731 - one call, named
        try:
            await self._caller.once(append, f"spool of {claim.key}")
        except RunnerError as error:
            facts = {"action": "say", "job_id": claim.id, "reason": str(error)}
            logger.warning("a line is missing in a job's log", extra=facts)


def _first_row(claim: ClaimedJob, state: str) -> JobRow | None:
    """Say what a job is called where it is told of first."""
    if state != "waiting":
        return None
    return JobRow(claim.id, claim.job.name, claim.job.user, claim.queue_name, submitted_at=claim.submitted_at or None)
