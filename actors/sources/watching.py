"""The watch over credential files: scanned at the start and at every hint, now and then while a job is alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from runner.calls import Caller
from runner.credential import CredentialFile
from runner.errors import RunnerError
from runner.ports import Credentials
from runner.quiet import Quiet

logger = logging.getLogger(__name__)

ALONE_SCAN_S = 20.0
"""While a job has the box for itself nothing watches the directory, but leases are renewed with what it says."""
AGAIN_S = 1.0


async def watch(
    credentials: Credentials, caller: Caller, quiet: Quiet, tell: Callable[[tuple[CredentialFile, ...]], None]
) -> None:
    """Tell what each scan found, for ever; a directory that cannot be read is named once, and looked at again."""

    async def scan() -> None:
        tell(await caller.once(credentials.scan, "scan of the credentials"))

    told = ""
    while True:
        try:
            await scan()
            told = ""
            async for _ in credentials.changes():
                await scan()
                while not await quiet.over_within(ALONE_SCAN_S):
                    await scan()
        except RunnerError as error:
            if str(error) != told:
                logger.warning("credentials cannot be read", extra={"action": "scan", "reason": str(error)})
            told = str(error)
        await asyncio.sleep(AGAIN_S)
