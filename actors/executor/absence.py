"""A runtime that does not answer: told once in the log of each job that runs in it, and once in the runner's own."""

from __future__ import annotations

import asyncio
import logging

from runner.errors import RunnerError
from runner.records import ClaimedJob
from runner.trail import Trail
from runner.units import format_duration

logger = logging.getLogger(__name__)

WORTH_A_LINE_S = 5.0


class Absences:
    """Which runtimes are away, as the runner's own log was told; shared by all attempts."""

    def __init__(self) -> None:
        """Begin with none."""
        self._away: set[str] = set()

    def began(self, runtime: str, reason: str) -> None:
        """Note that one does not answer; whoever notices first says so."""
        if runtime not in self._away:
            self._away.add(runtime)
            facts = {"action": "runtime_away", "runtime": runtime, "reason": reason}
            logger.warning("the %s runtime does not answer; what runs in it is waited for", runtime, extra=facts)

    def ended(self, runtime: str) -> None:
        """Note that one answers again."""
        if runtime in self._away:
            self._away.discard(runtime)
            logger.warning(
                "the %s runtime answers again", runtime, extra={"action": "runtime_back", "runtime": runtime}
            )


class Absence:
    """One runtime, as one job that runs in it meets it."""

    def __init__(self, claim: ClaimedJob, trail: Trail, absences: Absences) -> None:
        """Begin while it answers."""
        self._claim, self._trail, self._absences = claim, trail, absences
        # Loop seconds when it first did not answer; None: it answers. Whether the job's log was told.
        self._since: float | None = None
        self._told = False

    @property
    def is_on(self) -> bool:
        """Whether it did not answer last."""
        return self._since is not None

    async def noticed(self, error: RunnerError) -> None:
        """Tell of it once it was away for longer than a moment; limits and stops count on meanwhile."""
        clock = asyncio.get_running_loop().time()
        if self._since is None:
            self._since = clock
        elif not self._told and clock - self._since >= WORTH_A_LINE_S:
            self._told = True
            self._absences.began(self._claim.runtime, str(error))
            await self._trail.say(self._claim, f"{error}: the job is waited for, its limits count on")

    async def over(self) -> None:
        """Tell that it answers again."""
        since, told, self._since, self._told = self._since, self._told, None, False
        if since is None or not told:
            return
        self._absences.ended(self._claim.runtime)
        lasted = format_duration(asyncio.get_running_loop().time() - since)
        await self._trail.say(self._claim, f"the {self._claim.runtime} runtime answers again, after {lasted}")
