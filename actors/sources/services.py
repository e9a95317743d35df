"""
What is asked of the services behind credential files: which queues they have, and to go on with other secrets.

Its answers come as messages to sources; it decides nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import msgspec

from runner.calls import Caller
from runner.credential import Credential
from runner.errors import RunnerError
from runner.kernel import Ref
from runner.quiet import Quiet
from runner.source import Pollers, Source

LIST_EVERY_S = 5.0
AWAY_MOST_S, REFUSED_MOST_S = 15.0, 60.0
"""Between two listings of a service that does not answer, and of one that refuses us."""


class Listed(msgspec.Struct, frozen=True):
    """Self: the queues behind a file."""

    source: str
    content: str
    queues: tuple[str, ...] = ()


class Failed(msgspec.Struct, frozen=True):
    """Self: a service cannot be used just now, and why; ``refused``: it answered no."""

    source: str
    content: str
    reason: str
    refused: bool


class Moved(msgspec.Struct, frozen=True):
    """Self: open connections have the secrets of this credential."""

    source: str
    credential: Credential


class Services:
    """Asks the services; ``jitter`` returns a number from 0 to 1, ``sources`` is told what they answer."""

    def __init__(
        self,
        caller: Caller,
        jitter: Callable[[], float],
        pollers: Pollers,
        sources: Ref[Listed | Failed | Moved],
        quiet: Quiet,
    ) -> None:
        """Keep whom to ask and whom to tell."""
        self._caller, self._jitter, self._pollers, self._sources = caller, jitter, pollers, sources
        self._quiet = quiet

    async def move(self, source: Source) -> None:
        """Let what is open behind a file have the secrets that it says now, for as long as its service is away."""
        file, credential = source.file, source.credential
        move = lambda: self._pollers.move(source.broker, credential)  # noqa: E731 - one call, named
        try:
            await self._caller.until_done(move, f"new secrets of {file.file}")
        except RunnerError as error:
            self._sources.urgent(Failed(source.name, file.content, str(error), refused=True))
        self._sources.urgent(Moved(source.name, credential))

    async def list_regularly(self, source: Source) -> None:
        """
        List the queues now and then, since some appear later; where that fails, less and less often. Once listed, not
        while a job has the box for itself.
        """
        failures, listed = 0, False
        while True:
            failures = 0 if source.again.is_set() else failures
            source.again.clear()
            error = await self._list(source)
            failures = 0 if error is None else failures + 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s(failures, error)):
                    await source.again.wait()
            listed = listed or error is None
            if listed:
                await self._quiet.over()

    def _pause_s(self, failures: int, error: RunnerError | None) -> float:
        if error is None:
            return LIST_EVERY_S
        most_s = AWAY_MOST_S if error.retryable else REFUSED_MOST_S
        return min(most_s, LIST_EVERY_S * 2.0 ** min(failures - 1, 10)) * (0.5 + self._jitter() / 2)

    async def _list(self, source: Source) -> RunnerError | None:
        """Return why it did not work."""
        file = source.file
        try:
            queues = await self._caller.once(source.broker.queues, f"queues behind {file.file}")
        except RunnerError as error:
            self._sources.urgent(Failed(source.name, file.content, str(error), refused=not error.retryable))
            return error
        self._sources.urgent(Listed(source.name, file.content, queues))
        return None
