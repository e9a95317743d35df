"""
The watched directory of credential files.

The truth is a scan that reads and hashes every file; notices of change only say when to scan, since a Kubernetes
Secret changes by exchanging a link that such notices misreport. Never logs or tells a value of a file.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

from adapters.credential_scan import identity, scan_directory, subdirectories
from adapters.interruptible import Stop, interruptibly
from runner.credential import CredentialFile

T = TypeVar("T")
logger = logging.getLogger(__name__)

RESCAN_S = 5.0
ABSENT_S = 1.0
_STEP_MS, _SETTLED_MS = 50, 100
"""A notice comes within two steps; each step wakes a thread, so shorter ones cost an idle box processor time."""
SETTLE_S = 0.15
"""An editor that puts a new file in the place of the old one is done by then."""

Places = tuple[tuple[str, tuple[int, int] | None], ...]


class DirectoryCredentials:
    """
    The files of one directory and of those in it, "" for none.

    One that is missing is looked for every ``absent_s`` seconds; ``rescan_s`` is the time after which to look anyway,
    also where no notices come.
    """

    def __init__(self, directory: str, *, absent_s: float = ABSENT_S, rescan_s: float = RESCAN_S) -> None:
        self._absent_s, self._rescan_s = absent_s, rescan_s
        self._directory = os.path.abspath(directory) if directory else ""
        # Names of the files that the last scan could use.
        self._usable: frozenset[str] = frozenset()

    async def scan(self) -> tuple[CredentialFile, ...]:
        return await interruptibly("credentials", self._scan) if self._directory else ()

    async def changes(self) -> AsyncGenerator[None, None]:
        while True:
            places = await interruptibly("credentials", self._places)
            if places[0][1] is None:
                await asyncio.sleep(self._absent_s)
                yield
                continue
            try:
                async with contextlib.aclosing(self._watched(places)) as watched:
                    async for _ in watched:
                        yield
            except FileNotFoundError:
                await asyncio.sleep(self._absent_s / 10)  # one of them went away just now
                yield
            except (OSError, RuntimeError) as error:
                # The kernel's watches are used up: look at it from time to time instead.
                logger.debug("no notices of change", extra={"action": "watch", "reason": str(error)})
                await asyncio.sleep(self._rescan_s)
                yield

    async def _watched(self, places: Places) -> AsyncGenerator[None, None]:
        """Yield once the watch stands, then at every notice and after every pause, while they are these places."""
        from watchfiles import awatch

        notices = awatch(
            *(path for path, _ in places),
            watch_filter=None,
            debounce=_SETTLED_MS,
            step=_STEP_MS,
            rust_timeout=int(self._rescan_s * 1000),
            yield_on_timeout=True,
            recursive=False,
            ignore_permission_denied=True,
        )
        async with contextlib.aclosing(notices), _begun(notices) as first:
            yield
            await first
            yield
            while await interruptibly("credentials", self._places) == places:
                await anext(notices)
                yield

    def _places(self, _stop: Stop | None = None) -> Places:
        """Return the directory and those in it, with what tells each from another one of its name."""
        below = (os.path.join(self._directory, name) for name in subdirectories(self._directory))
        return tuple((path, identity(path)) for path in (self._directory, *below))

    def _scan(self, stop: Stop) -> tuple[CredentialFile, ...]:
        """Look once more where a file that could be used is gone or broken: somebody may be replacing it just now."""
        found = scan_directory(self._directory)
        if self._usable - _usable(found):
            stop.check()
            time.sleep(SETTLE_S)
            found = scan_directory(self._directory)
        self._usable = _usable(found)
        return found


def _usable(files: tuple[CredentialFile, ...]) -> frozenset[str]:
    return frozenset(file.file for file in files if file.credential is not None)


@contextlib.asynccontextmanager
async def _begun(notices: AsyncIterator[T]) -> AsyncIterator[asyncio.Future[T]]:
    """Let the watch begin, which it does in its first step; what changes from here on is noticed."""
    first = asyncio.ensure_future(anext(notices))
    try:
        await asyncio.sleep(0)
        yield first
    finally:
        first.cancel()
        with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
            await first
