"""
Whether one job has the box for itself now: what can wait does so until that is over, lest it shows in its measurements.

That of the ring is inventory's, and the edge reads it, which is restarted at any time and must know at once. Cache and
outputs have their own, changed by what inventory tells them.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.job import Key
    from runner.messages import QuietChanged


class Quiet:
    """Begins with nobody alone."""

    def __init__(self) -> None:
        """Begin."""
        # The job that has the box for itself, None where nobody has.
        self.alone: Key | None = None
        # Replaced with every change, so that whoever waits looks again.
        self._changed = asyncio.Event()

    def change(self, message: QuietChanged) -> None:
        """Take in who is alone now."""
        self.alone = message.alone
        self._changed.set()
        self._changed = asyncio.Event()

    async def over_within(self, seconds: float) -> bool:
        """Wait for that, for so long at most; tell whether it is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.over()
        return self.alone is None

    async def over(self, key: Key | None = None) -> None:
        """Return once nobody is alone; at once where it is the job of this key. Waits as long as that job runs."""
        while self.alone is not None and self.alone != key:
            await self._changed.wait()
