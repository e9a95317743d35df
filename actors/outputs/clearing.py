"""
What is deleted once a job is stored: its workspace, its stop mark, and after a while what the box kept of it.

Nothing here holds up a job: what cannot be deleted now is left over, and told.
"""

from __future__ import annotations

import functools
import logging

from runner.calls import COURTESY, Caller
from runner.config import Config
from runner.directory import Directory
from runner.errors import RunnerError
from runner.leaving import Leaving
from runner.ports import Results, World
from runner.records import ClaimedJob
from runner.trail import Trail

logger = logging.getLogger(__name__)


class Clearing:
    """Tidies up behind jobs that left."""

    def __init__(self, config: Config, world: World, caller: Caller, trail: Trail, directory: Directory) -> None:
        """Keep what to delete with, and for how long things are kept."""
        self._config, self._world, self._caller, self._trail = config, world, caller, trail
        self._directory = directory

    async def workspace(self, leaving: Leaving) -> None:
        """
        Delete the workspace of a job that succeeded; one that failed is kept for its owner to look at, for a while.
        """
        staged = leaving.staged
        kept = leaving.workspace_kept and self._config.keep_workspaces > 0
        if staged is None or kept:
            return
        try:
            remove = lambda: self._world.workspaces.remove(staged.workspace)  # noqa: E731 - one call, named
            await self._caller.until_done(remove, "removal of a workspace", COURTESY)
        except RunnerError as error:
            facts = {"action": "remove", "job_id": leaving.claim.id, "reason": str(error)}
            logger.warning("a workspace is left over", extra=facts)

    async def stop_mark(self, claim: ClaimedJob) -> None:
        """Take away a stop mark that came too late or did its work, so that it never ends a later job of this id."""

        async def clear(results: Results) -> None:
            await results.clear_stop(claim.id)

        on_results = functools.partial(self._directory.on_results, claim.queue, clear)
        try:
            await self._caller.until_done(on_results, f"stop mark of {claim.id}", COURTESY)
        except RunnerError as error:
            facts = {"action": "clear_stop", "job_id": claim.id, "reason": str(error)}
            logger.warning("a stop mark is left over", extra=facts)

    async def old(self) -> None:
        """Delete workspaces and journal rows that were kept long enough."""
        now, world, call = self._world.now(), self._world, self._caller.until_done
        entries = await self._trail.in_flight()
        keep = frozenset(entry.staged.staged.workspace for entry in entries if entry.staged)
        keep |= frozenset(str(entry.key) for entry in entries)
        await call(lambda: world.workspaces.prune(now - self._config.keep_workspaces, keep), "old workspaces")
        await call(lambda: world.journal.prune(now - self._config.keep_journal), "old journal rows")
