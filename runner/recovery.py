"""
What earlier lives left: their jobs re-enter at their own stages, their containers are removed once no job owns them.

Crash-only: there is no other way to start.
"""

from __future__ import annotations

import asyncio
import logging

from runner.calls import Patience
from runner.errors import RunnerError
from runner.job import EndReason
from runner.messages import Ended, JobAdopted
from runner.records import JournalEntry
from runner.ring import Ring

logger = logging.getLogger(__name__)

STOPPED_TWICE = 2
REAP_S = 600.0
REAP_EVERY_S = 600.0
REAP_GRACE_S = 60.0
"""A container that no job owns is looked at again after so long, before it is removed."""
REMOVAL_S = 30.0


class Recovery:
    """Takes back what the journal holds, and clears away what it does not."""

    def __init__(self, ring: Ring) -> None:
        """Keep whom to tell."""
        self._ring, self._world, self._caller = ring, ring.world, ring.caller
        # Containers of this box that no job owned, by runtime and name, and when each was first seen (loop seconds).
        self._unowned: dict[tuple[str, str], float] = {}
        self._patience = Patience(try_s=self._caller.patience.try_s, all_s=REAP_S)

    async def adopt(self) -> None:
        """Let every journaled job re-enter at its own stage; only then may queues be read."""
        entries = await self._ring.trail.in_flight()
        for entry in sorted(entries, key=_adopted_at):
            if _is_deadly(entry):
                await self._end_unseen(entry)
            elif _must_not_run(entry):
                claim = entry.claimed.claim
                self._ring.address("outputs").urgent(Ended(claim, claim.ends_as, claim.problem))
            else:
                for stage in self._ring.stages:
                    stage.urgent(JobAdopted(entry))
        logger.info("jobs taken back", extra={"action": "adopt", "jobs": len(entries)})

    async def reap_regularly(self) -> None:
        """Remove containers of this box that no journaled job owns, for ever; those of other boxes are left alone."""
        while True:
            for kind in self._world.containers:
                await self._reap(kind)
            await asyncio.sleep(REAP_GRACE_S + 1 if self._unowned else REAP_EVERY_S)
            await self._ring.quiet.over()

    async def _end_unseen(self, entry: JournalEntry) -> None:
        """End a job that made the runner end twice before anything of it is replayed: first its container."""
        claim = entry.claimed.claim
        runtime = self._world.containers.get(claim.runtime)
        if runtime is not None and entry.starting is not None:
            name = entry.starting.container
            try:
                patience = Patience(try_s=self._caller.patience.try_s, all_s=REMOVAL_S)
                await self._caller.until_done(lambda: runtime.remove(name), f"removal of {name}", patience)
            except RunnerError as error:
                logger.warning("a container is left over", extra={"action": "remove", "reason": str(error)})
        text = f"its own task in stage {entry.faulted.stage if entry.faulted else ''} made the runner end twice"
        self._ring.address("outputs").urgent(Ended(claim, EndReason.RUNNER_FAULT, text))

    async def _reap(self, kind: str) -> None:
        patience, runtime = self._patience, self._world.containers[kind]
        try:
            ours = await self._caller.until_done(runtime.list_ours, "containers", patience)
            unowned = {(kind, name) for name in ours if not await self._owned_now(name)}
            self._unowned = {it: at for it, at in self._unowned.items() if it[0] != kind or it in unowned}
            for it in sorted(unowned):
                await self._remove_later(*it)
        except RunnerError as error:
            logger.warning("containers were not reaped", extra={"action": "reap", "reason": str(error)})

    async def _remove_later(self, kind: str, name: str) -> None:
        """Remove what no job owned a while ago, nor does now: its job ended, or the journal is another one."""
        clock, remove = asyncio.get_running_loop().time(), self._world.containers[kind].remove
        seen_at = self._unowned.setdefault((kind, name), clock)
        if seen_at == clock:
            facts = {"action": "reap", "container": name, "after_s": REAP_GRACE_S}
            logger.warning("no job owns a container of this box; it is removed soon", extra=facts)
        elif clock - seen_at >= REAP_GRACE_S and not await self._owned_now(name):
            await self._caller.until_done(lambda: remove(name), f"removal of {name}", self._patience)
            del self._unowned[kind, name]

    async def _owned_now(self, name: str) -> bool:
        return name in _containers_of(await self._ring.trail.in_flight())


def _is_deadly(entry: JournalEntry) -> bool:
    """Tell whether this job's own task made the runner end twice in one stage."""
    return entry.faulted is not None and entry.faulted.times >= STOPPED_TWICE and entry.stored is None


def _must_not_run(entry: JournalEntry) -> bool:
    """Tell whether the runner was killed before it had stored how a message ended that is not to run."""
    return bool(entry.claimed.claim.problem) and entry.stored is None


def _adopted_at(entry: JournalEntry) -> int:
    """Say when a job is adopted: what holds a grant comes first, for what only waits would be granted the same."""
    if _is_deadly(entry):
        return 1
    return 0 if entry.granted is not None else 2


def _containers_of(entries: tuple[JournalEntry, ...]) -> frozenset[str]:
    """Name the containers of jobs that run as far as the journal knows."""
    return frozenset(entry.starting.container for entry in entries if entry.starting and entry.exited is None)
