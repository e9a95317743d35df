"""
The output of a running attempt, read into its spool to the end.

After any failure the spool says how many bytes of each stream it has, and reading goes on from there: nothing is lost,
nothing stands twice.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing

from actors.executor.attempt import Attempt
from runner.calls import Caller
from runner.errors import OutOfSpace, RunnerError, Unavailable
from runner.job import EndReason
from runner.ports import Chunk, Containers, Spool
from runner.trail import Trail
from runner.units import format_size

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
        self._attempt, self._runtime, self._spool, self._caller, self._trail = attempt, runtime, spool, caller, trail
        # Set once more was printed than is kept; once the container is gone.
        self._is_cut_off = self._is_gone = False

    async def follow(self, *, silence_s: float = SILENCE_S) -> None:
        """Read until both streams end; after so many seconds without a sign, reading begins again."""
        pause, quiet_until = 0.1, 0.0
        while True:
            try:
                await self._read_on(silence_s)
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
        key, number = self._attempt.claim.key, self._attempt.claim.attempt
        clock, what = asyncio.get_running_loop().time, f"spool of {key}"
        skip = await self._caller.once(lambda: self._spool.bytes_written(key, number), what)
        log = self._attempt.log
        log.begin(sum(skip.get(stream, 0) for stream in ("stdout", "stderr")))
        output = self._runtime.attach(self._attempt.name, skip)
        async with aclosing(output):  # type: ignore[type-var]  # the port's iterators are generators
            async for chunk in _with_signs_of_life(output, silence_s):
                self._attempt.heard_at = clock()
                if kept := log.take(chunk.data):
                    append = functools.partial(self._spool.append, key, number, chunk.stream, kept)
                    await self._caller.once(append, what)
                if log.is_flooded:
                    await self._flooded()
                    if self._is_gone:
                        return

    async def _flooded(self) -> None:
        """End it once for what it prints; the rest is read and dropped, or it could not get on and end."""
        if not self._is_cut_off:
            self._is_cut_off = True
            limit = format_size(self._attempt.log.limit_bytes)
            await self._trail.say(
                self._attempt.claim, f"the log was cut off: it may have {limit}, and more was printed"
            )
            self._attempt.end(EndReason.LOG_FLOOD, f"it prints more than the {limit} that its log may have")

    async def drained(self, log: asyncio.Task[None]) -> None:
        """
        Wait for the end of both streams, once the container is gone.

        ``log`` is the task that follows. What a lost child still holds open is cut off with a mark.
        """
        self._is_gone = True
        _, late = await asyncio.wait({log}, timeout=0.0 if self._is_cut_off else DRAIN_S)
        log.cancel()
        if not late or self._is_cut_off:
            return
        try:
            async with asyncio.timeout(DRAIN_S + 3 * self._caller.patience.try_s):
                await self.follow(silence_s=DRAIN_S)
        except TimeoutError:
            await self._trail.say(self._attempt.claim, "the log was cut off: something still holds it open")


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
