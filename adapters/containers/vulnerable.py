"""
Whether containers may have GPUs on a box that gives none while a known way out of them is open (``refuse_vulnerable``).

Only what is known to be open counts, not what nobody can tell. Looked at now and then, since packages are upgraded.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from adapters.containers.engine_parts import parts
from adapters.escapes import ESCAPES, Part, verdict
from runner.config import Config
from runner.errors import RunnerError
from runner.ports.world import all_is_well

logger = logging.getLogger(__name__)

EVERY_S = 60.0
NAMED_AT_MOST = 3


def gate(config: Config, *, engine: bool) -> Callable[[], Awaitable[str]]:
    """Return who says why no container may have a GPU: nobody, where the box does not ask for it or has no engine."""
    return OpenEscapes(config.docker_host).why_no_gpus if engine and config.refuse_vulnerable else all_is_well


class OpenEscapes:
    """What is known of the engine at one URL, remembered for ``every_s`` seconds, or for as long as it is away."""

    def __init__(self, docker_host: str, every_s: float = EVERY_S) -> None:
        self._docker_host, self._every_s = docker_host, every_s
        self._looked_at: float | None = None
        self._told = ""

    async def why_no_gpus(self) -> str:
        """Name the faults that are open here and in what, "" for none; an engine that is away changes nothing."""
        if self._looked_at is None or time.monotonic() - self._looked_at > self._every_s:
            self._looked_at = time.monotonic()
            try:
                self._told = reason(await asyncio.to_thread(parts, self._docker_host))
            except RunnerError as error:
                self._looked_at = None
                logger.debug("the engine tells no versions", extra={"action": "look", "reason": str(error)})
        return self._told


def reason(found: tuple[Part, ...]) -> str:
    """Say in one sentence which faults are known to be open in these programs, "" for none."""
    by_name = {part.name: part for part in found}
    pairs = [(escape, by_name[escape.part]) for escape in ESCAPES if escape.part in by_name]
    open_here = [(escape, part) for escape, part in pairs if verdict(escape, part) == "vulnerable"]
    if not open_here:
        return ""
    which = ", ".join(f"{escape.cve} in {part.name} {part.version}" for escape, part in open_here[:NAMED_AT_MOST])
    more = f" and {len(open_here) - NAMED_AT_MOST} more" if len(open_here) > NAMED_AT_MOST else ""
    return f"no container gets a GPU while a known way out is open ({which}{more}): see `runner doctor`, and upgrade"
