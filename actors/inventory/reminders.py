"""
What comes to inventory by the clock. Of each kind one stands in its mailbox at most, however long it waits there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from runner.messages import ProbeReported

TURN_S = 1.0


class Turn(msgspec.Struct, frozen=True):
    """Self: look at the waiting jobs again."""


class Reminders:
    """``tell`` is called with what is due."""

    def __init__(self, tell: Callable[[ProbeReported | Turn], None]) -> None:
        """Begin with nothing told."""
        self._tell = tell
        self._stands: set[type[ProbeReported | Turn]] = set()

    def remind(self, message: ProbeReported | Turn) -> None:
        """Tell, unless one of its kind was told and is not handled yet."""
        if type(message) not in self._stands:
            self._stands.add(type(message))
            self._tell(message)

    def handled(self, message: ProbeReported | Turn) -> None:
        """Let the next one of its kind be told."""
        self._stands.discard(type(message))

    async def turn_regularly(self) -> None:
        """Remind every second, for ever."""
        while True:
            await asyncio.sleep(TURN_S)
            self.remind(Turn())
