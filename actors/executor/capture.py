"""
The output of a running attempt, read into its spool to the end.

One reads, one writes: reading waits for writing only where much is held. After any failure the spool says how many
bytes of each stream it has, and reading goes on from there: nothing is lost, nothing stands twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager

from actors.executor.attempt import Attempt
from actors.executor.joining import Flow
from actors.executor.log_keeping import LogKeeping
from runner.calls import Caller
from runner.errors import OutOfSpace, RunnerError, Unavailable
from runner.job import EndReason
from runner.ports import Chunk, Containers, Gap, Spool
from runner.trail import Trail

logger = logging.getLogger(__name__)

DRAIN_S = 15.0
SILENCE_S = 300.0


class _Silence(Unavailable):
    """Nothing came for so long; the job may be silent, or the line to it dead."""

    code = "silence"


class Capture:
    """Reads one attempt; a log that cannot be kept ends it."""

    def __init__(self, attempt: Attempt, runtime: Containers, spool: Spool, caller: Caller, trail: Trail) -> None:
        """Keep where to read from and where to write."""
        self._attempt, self._runtime, self._caller, self._trail = attempt, runtime, caller, trail
        self._keeping = LogKeeping(attempt, spool, caller, trail)

    async def follow(self, *, silence_s: float = SILENCE_S) -> None:
        """Read until both streams end; after so many seconds without a sign, reading begins again."""
        pause, quiet_until = 0.1, 0.0
        while True:
            try:
                await self._read_on(silence_s)
                await self._keeping.finish()
                return
            except OutOfSpace as error:
                if self._attempt.stop.done():
                    await self._trail.say(self._attempt.claim, "the log was cut off: the disk is full")
                    return  # what it wrote is deleted with its container, which gives room again
                self._attempt.end(EndReason.DISK_FULL, f"its log cannot be kept: {error}")
            except _Silence as error:  # most likely the job's own: no fault
                logger.debug("reading a log begins again", extra={"action": "attach", "reason": str(error)})
            except RunnerError as error:
                clock = asyncio.get_running_loop().time()
                if clock >= quiet_until:
                    logger.warning("reading a log begins again", extra={"action": "attach", "reason": str(error)})
                    quiet_until = clock + SILENCE_S
            await asyncio.sleep(pause)
            pause = min(5.0, pause * 2)

    async def _read_on(self, silence_s: float) -> None:
        output = self._runtime.attach(self._attempt.name, await self._keeping.begin())
        flow = Flow()
        async with aclosing(output):  # type: ignore[type-var]  # the port's iterators are generators
            with _plain_errors():
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._keeping.write(flow))
                    trouble = await self._fill(flow, _with_signs_of_life(output, silence_s))
        if trouble is not None:
            raise trouble

    async def _fill(self, flow: Flow, chunks: AsyncIterator[Chunk]) -> RunnerError | None:
        """Read to the end; what was read is written, too, where that broke off, since it may not come again."""
        clock = asyncio.get_running_loop().time
        try:
            async for chunk in chunks:
                self._attempt.heard_at = clock()
                await flow.put(chunk.stream, chunk.data)
                if self._keeping.is_over:
                    break
        except RunnerError as error:
            return error
        finally:
            flow.end()
        return None

    async def tell_gap(self, reason: str) -> None:
        """Tell of what is missing for good, nobody knows how much, where the log is now."""
        try:
            await self._keeping.tell(Gap(reason=reason))
        except RunnerError as error:
            facts = {"action": "say", "job_id": self._attempt.claim.id, "reason": str(error)}
            logger.warning("a gap in a job's log is not told there", extra=facts)

    async def drained(self, log: asyncio.Task[None]) -> None:
        """
        Wait for the end of both streams, once the container is gone.

        ``log`` is the task that follows. What a lost child still holds open is cut off with a mark.
        """
        self._keeping.is_gone = True
        _, late = await asyncio.wait({log}, timeout=0.0 if self._keeping.is_cut_off else DRAIN_S)
        log.cancel()
        if not late or self._keeping.is_cut_off:
            return
        # What it may still write in the turn that it ends in is to be counted first.
        await asyncio.wait(late, timeout=self._caller.patience.try_s)
        try:
            async with asyncio.timeout(DRAIN_S + 3 * self._caller.patience.try_s):
                await self.follow(silence_s=DRAIN_S)
        except TimeoutError:
            await self.tell_gap("the log was cut off: something still holds it open")


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Raise what went wrong first as it is, and not in a group."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group


async def _with_signs_of_life(chunks: AsyncIterator[Chunk], silence_s: float) -> AsyncIterator[Chunk]:
    """
    Yield what a log gives, and give up where it gave nothing for long: reading begins again then, at the same byte.

    Raises:
        _Silence: nothing came for so long.
    """
    while True:
        try:
            async with asyncio.timeout(silence_s):
                chunk = await anext(chunks, None)
        except TimeoutError as error:
            raise _Silence(f"its log gave no sign for {silence_s:g} s") from error
        if chunk is None:
            return
        yield chunk
