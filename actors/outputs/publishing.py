"""
What others read of an attempt that ended: its log and its receipt, in the result backend and beside its outputs.

The receipt in the result backend is the one that counts; the rest is a courtesy, tried for a while.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from runner.calls import COURTESY, Caller
from runner.directory import Directory
from runner.errors import AlreadyStored, RunnerError
from runner.job import EndReason
from runner.leaving import Leaving, log_account, url_of
from runner.ports import Results, World
from runner.receipt import LogAccount, Receipt
from runner.records import ClaimedJob
from runner.trail import Trail

T = TypeVar("T")
logger = logging.getLogger(__name__)

REFUSED_S = 30.0


class Publishing:
    """Puts logs and receipts where they belong; a queue without a result backend gets none."""

    def __init__(self, world: World, caller: Caller, trail: Trail, directory: Directory) -> None:
        """Keep what to publish with."""
        self._world, self._caller, self._trail, self._directory = world, caller, trail, directory

    async def log(self, leaving: Leaving) -> LogAccount:
        """Say how the attempt ended, seal its log, and put it into the result backend."""
        claim = leaving.claim
        if leaving.outcome.reason is not EndReason.SUCCEEDED:
            await self._trail.say(claim, f"{leaving.outcome.reason.value}: {leaving.outcome.message}")
        seal_it = lambda: self._world.spool.seal(claim.key, claim.attempt)  # noqa: E731 - one call, named
        seal = await self._caller.until_done(seal_it, f"spool of {claim.key}")
        return log_account(seal, await self._put_log(leaving, seal.archive))

    async def _put_log(self, leaving: Leaving, archive: str) -> str:
        claim = leaving.claim

        async def put(results: Results) -> str:
            return await results.put_log(claim.key, claim.attempt, archive)

        on_results = functools.partial(self._directory.on_results, claim.queue, put)
        patience = COURTESY.until(leaving.store_by)
        try:
            return await self._caller.until_done(on_results, f"log of {claim.key}", patience) or ""
        except RunnerError as error:
            facts = {"action": "store", "job_id": claim.id, "reason": str(error)}
            logger.error("a log archive was not stored", extra=facts)
            return ""

    async def receipt(self, leaving: Leaving, receipt: Receipt) -> Receipt | None:
        """
        Put the receipt, once, and return the one that stands; None where a later attempt has left this one behind.

        One that stood already is ours from an earlier life, or of a box that died before it settled: it counts.
        """
        claim = leaving.claim
        await self._put_beside_outputs(leaving, receipt)
        try:
            await self._insist(claim, lambda results: results.put_receipt(receipt))
        except AlreadyStored:
            stored = await self._insist(claim, lambda results: results.get(claim.key))
            return stored if stored is not None and stored.attempt == receipt.attempt else None
        return receipt

    async def _insist(self, claim: ClaimedJob, call: Callable[[Results], Awaitable[T]]) -> T | None:
        """Call a result backend until it takes it: one that refuses must be mended by a person, and the job waits."""
        on_results = functools.partial(self._directory.on_results, claim.queue, call)
        while True:
            entry = self._directory.find(claim.queue)
            try:
                done = await self._caller.until_done(on_results, f"receipt of {claim.key}")
            except AlreadyStored:
                raise
            except RunnerError as error:
                if entry is not None:
                    entry.backend.refusals.refused(entry.name, error)
                await asyncio.sleep(REFUSED_S)
                continue
            if entry is not None:
                entry.backend.refusals.took(entry.name)
            return done

    async def _put_beside_outputs(self, leaving: Leaving, receipt: Receipt) -> None:
        """Write ``receipt.json`` where the first output stands."""
        claim, patience = leaving.claim, COURTESY.until(leaving.store_by)
        first = next((output for output in claim.job.outputs if output.url and not output.key), None)
        urls = {output.url for output in receipt.outputs if output.url}
        if first is None or not urls:
            return
        url = url_of(first, claim.id, "receipt.json")
        if url in urls:
            return  # the job wrote one of its own, which is worth more to its owner
        store = self._world.open_store(url, claim.rights)
        try:
            text = msgspec.json.format(msgspec.json.encode(receipt), indent=2)
            await self._caller.until_done(lambda: store.put_bytes(text, url), f"receipt of {claim.key}", patience)
        except RunnerError as error:
            facts = {"action": "store", "job_id": claim.id, "reason": str(error)}
            logger.warning("no receipt beside the outputs", extra=facts)
        finally:
            await store.close()
