"""The ring as its parts see it: the addresses of the actors, and what they share. Runs nothing by itself."""

from __future__ import annotations

import logging

from runner.allowance import Allowance
from runner.calls import Caller, Patience
from runner.config import Config
from runner.directory import Directory
from runner.kernel import DeadLetter, Ref, Restart, Supervisor
from runner.ports import World
from runner.quiet import Quiet
from runner.stage import FaultBudget
from runner.trail import Trail

logger = logging.getLogger(__name__)

STAGES = ("inventory", "cache", "executor", "outputs")
EDGE = Restart(attempts=1_000_000, within_s=600.0)
"""The edge meets foreign systems: it is restarted for ever, with back-off, and its failures are its own."""


class Ring(Supervisor):
    """Where everybody is; actors are added by the composition root."""

    def __init__(self, config: Config, world: World) -> None:
        """Declare the address of every stage."""
        super().__init__("runner", on_dead_letter=_quietly)
        self.config, self.world = config, world
        self.directory, self.faults = Directory(), FaultBudget(world.now)
        self.stages: tuple[Ref[object], ...] = tuple(self.address(name) for name in STAGES)
        self.allowance = Allowance(config.limit_tasks, float(config.limit_idle_duration))
        self.caller = Caller(world.random, Patience(try_s=float(config.port_timeout)))
        self.trail = Trail(world, self.caller)
        self.quiet = Quiet()

    def address(self, name: str) -> Ref[object]:
        """Return the address of an actor, with the configured room in its mailbox."""
        return self.ref(name, capacity=self.config.mailbox)


def _quietly(letter: DeadLetter) -> None:
    logger.debug("message not handled", extra={"action": "dead_letter", "to": letter.to, "reason": letter.reason})
