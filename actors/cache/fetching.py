"""How this stage calls ports: with a few minutes' patience, and room made where the disk is full."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from runner.calls import Caller, Patience
from runner.errors import OutOfSpace

if TYPE_CHECKING:
    from runner.config import Config

T = TypeVar("T")

FETCH_PATIENCE_S = 300.0


class Fetcher:
    """Calls ports; ``make_room`` is called where one of them found no space."""

    def __init__(self, config: Config, caller: Caller, make_room: Callable[[], Awaitable[None]]) -> None:
        """Keep the limits."""
        self._config, self._caller, self._make_room = config, caller, make_room

    async def fetch(
        self, call: Callable[[], Awaitable[T]], what: str, *, transfer: bool = False, within_s: float | None = None
    ) -> T:
        """
        Call for a few minutes, then it is the box's fault and another one tries; ``within_s`` where the caller itself
        ends it then.

        Raises:
            RunnerError: one that is not retryable, or the last one when the patience is used up.
        """
        try_s = float(self._config.transfer_timeout if transfer else self._config.port_timeout)
        patience = Patience(try_s=try_s, all_s=FETCH_PATIENCE_S)
        if within_s is not None:
            patience = Patience(try_s=within_s + FETCH_PATIENCE_S, all_s=min(within_s, FETCH_PATIENCE_S))
        return await self._caller.until_done(lambda: self._making_room(call), what, patience)

    async def once(self, call: Callable[[], Awaitable[T]], what: str) -> T:
        """
        Call what must not be tried twice, within the limit of a transfer.

        Raises:
            RunnerError: it failed.
        """
        limit_s = float(self._config.transfer_timeout)
        return await self._caller.once(lambda: self._making_room(call), what, try_s=limit_s)

    async def _making_room(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call a port; where the disk is full, what nobody uses now gives way to the next try."""
        try:
            return await call()
        except OutOfSpace:
            await self._make_room()
            raise
