"""For ``app``: whoever watches over the process hears of it only while every stage of the ring answers."""

from __future__ import annotations

import asyncio
import logging

from runner.kernel import ActorStopped, Ref
from runner.messages import PulseAsked
from runner.ports import ServiceManager
from runner.ring import STAGES, Ring

logger = logging.getLogger(__name__)

TURNS = 3
"""Signs of life within the time that the service manager waits for one."""


async def keep_watch(ring: Ring, manager: ServiceManager) -> None:
    """Give signs of life, for ever, where somebody waits for them; none comes from a loop or a stage that is stuck."""
    if manager.watchdog_s is None:
        return
    every_s = manager.watchdog_s / TURNS
    while True:
        answers = await asyncio.gather(*(_answers(stage, every_s) for stage in ring.stages))
        silent = [name for name, answered in zip(STAGES, answers, strict=True) if not answered]
        if silent:
            facts = {"action": "watchdog", "stages": silent, "within_s": every_s}
            logger.error("no sign of life is given, for a stage does not answer", extra=facts)
            continue
        manager.tell(watchdog=1)
        await asyncio.sleep(every_s)


async def _answers(stage: Ref[object], within_s: float) -> bool:
    try:
        await stage.ask(PulseAsked, timeout_s=within_s)
    except TimeoutError:
        return False
    except ActorStopped:
        await asyncio.sleep(within_s)  # the runner ends, and says itself how
        return False
    return True
