"""
The writing half of a capture: what goes into the spool, what is left out, and what is told of that.

What more output than its limits means is the operator's choice: the end of the job, a log without its middle, or a job
that waits. A job cannot wait for room in its log, which never comes: where it is full, its middle goes instead.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import assert_never

import msgspec

from actors.executor.attempt import Attempt
from actors.executor.joining import Flow
from actors.executor.log_rate import REST_S, LeftOut
from runner.calls import Caller
from runner.errors import RunnerError
from runner.job import EndReason
from runner.ports import Gap, Spool
from runner.trail import Trail

logger = logging.getLogger(__name__)

STREAMS = ("stdout", "stderr")


class LogKeeping:
    """Writes the spool of one attempt, within its limits."""

    def __init__(self, attempt: Attempt, spool: Spool, caller: Caller, trail: Trail) -> None:
        """Keep where to write."""
        self._attempt, self._spool, self._caller, self._trail = attempt, spool, caller, trail
        self._left_out = {stream: LeftOut(stream) for stream in STREAMS}
        # What was said already: each is said once.
        self._said: set[str] = set()
        # Set once more was printed than is kept and that ends it; once the container is gone.
        self.is_cut_off = self.is_gone = False

    @property
    def is_over(self) -> bool:
        """Whether nothing of what is still there is kept."""
        return self.is_cut_off and self.is_gone

    async def begin(self) -> dict[str, int]:
        """Return from after how many bytes of each stream to read on, and count from there."""
        key, number = self._attempt.claim.key, self._attempt.claim.attempt
        skip = await self._caller.once(lambda: self._spool.bytes_written(key, number), f"spool of {key}")
        self._left_out = {stream: LeftOut(stream) for stream in STREAMS}
        self._attempt.log.begin(sum(skip.get(stream, 0) for stream in STREAMS))
        return skip

    async def write(self, flow: Flow) -> None:
        """Write what comes until its end."""
        while pieces := await flow.next():
            for stream, data in pieces:
                await self._keep(stream, data)
                await asyncio.sleep(0)  # others have their turn between records
            await flow.turn()
        await self._tell_left_out()

    async def finish(self) -> None:
        """Say at the end what was said in the middle, which may be gone by now."""
        if "dropped" in self._said:
            text = f"its log was full: beyond {self._attempt.log.limit_words}, its middle was left out"
            await self._trail.say(self._attempt.claim, text)

    async def tell(self, gap: Gap) -> None:
        """Note in the log that something is missing, and say it."""
        await self._append("gap", msgspec.json.encode(gap))
        await self._trail.say(self._attempt.claim, gap.reason)

    async def _keep(self, stream: str, data: bytes) -> None:
        if stream == "gap":
            await self._told(data)
            return
        match self._attempt.log.overflow:
            case "kill":
                await self._keep_or_end(stream, data)
            case "truncate":
                await self._keep_some(stream, data)
            case "pause":
                await self._keep_slowly(stream, data)
            case never:
                assert_never(never)

    async def _told(self, data: bytes) -> None:
        """Note what the runtime says is missing."""
        for line in data.splitlines():
            await self.tell(msgspec.json.decode(line, type=Gap))

    async def _keep_or_end(self, stream: str, data: bytes) -> None:
        """End it once for what it prints; the rest is read and dropped, or it could not get on and end."""
        log = self._attempt.log
        kept = log.take(data)
        if self.is_cut_off:
            return
        slow, fast = log.rate.cut(kept, self._now())
        log.is_too_fast = bool(fast)
        if slow:
            await self._append(stream, slow)
        if log.is_flooded:
            self.is_cut_off = True
            limit = log.limit_words
            text = f"the log was cut off: it may have {limit}, and more was printed"
            await self._trail.say(self._attempt.claim, text)
            self._attempt.end(EndReason.LOG_FLOOD, f"it prints more than the {limit} that its log may have")

    async def _keep_some(self, stream: str, data: bytes) -> None:
        left_out = self._left_out[stream]
        kept, fast = self._attempt.log.rate.cut(left_out.rest_of_line(data), self._now())
        if kept:
            await self._tell_left_out()
            await self._write(stream, kept)
        if fast:
            left_out.add(fast)
            await self._say_once("left out", f"it prints more than {self._rate}: lines over that are left out")

    async def _keep_slowly(self, stream: str, data: bytes) -> None:
        log = self._attempt.log
        while data:
            kept, data = log.rate.cut(data, self._now())
            await self._write(stream, kept)
            if data:
                text = f"paused: it prints more than {self._rate}, and waits whenever it is ahead of that"
                await self._say_once("paused", text)
                await self._rest()

    async def _rest(self) -> None:
        """Read nothing for a while, which is no silence of the job's; who ends must not wait for that."""
        self._attempt.heard_at = self._now()
        if self.is_gone or self._attempt.stop.done():
            self._attempt.log.rate.per_second = 0
        else:
            await asyncio.wait({self._attempt.stop}, timeout=REST_S)

    async def _write(self, stream: str, data: bytes) -> None:
        log = self._attempt.log
        if data:
            log.take(data)
            await self._append(stream, data)
        if (parts := log.middle()) is not None:
            await self._drop_middle(*parts)

    async def _drop_middle(self, head_bytes: int, tail_bytes: int) -> None:
        key, number, log = self._attempt.claim.key, self._attempt.claim.attempt, self._attempt.log
        what = f"log of {self._attempt.name} without its middle"
        drop = functools.partial(self._spool.drop_middle, key, number, head_bytes, tail_bytes)
        try:
            dropped = await self._caller.once(drop, what)
        except RunnerError as error:
            # Tried again once more was printed; the limit on its disk stands behind this one.
            if "uncut" not in self._said:
                facts = {"action": "drop_middle", "job_id": self._attempt.claim.id, "reason": str(error)}
                logger.warning("the middle of a log cannot be dropped", extra=facts)
            self._said.add("uncut")
            return
        if dropped:
            await self._say_once("dropped", f"its log is full: beyond {log.limit_words}, its middle is left out")

    async def _tell_left_out(self) -> None:
        for left_out in self._left_out.values():
            if left_out.size_bytes:
                gap = left_out.take(f"more than {self._rate}")
                await self._append("gap", msgspec.json.encode(gap))

    async def _say_once(self, what: str, text: str) -> None:
        if what not in self._said:
            self._said.add(what)
            await self._trail.say(self._attempt.claim, text)

    @property
    def _rate(self) -> str:
        return f"{self._attempt.log.rate.per_second} lines a second (log_rate)"

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _append(self, stream: str, data: bytes) -> None:
        key, number = self._attempt.claim.key, self._attempt.claim.attempt
        append = functools.partial(self._spool.append, key, number, stream, data)
        await self._caller.once(append, f"spool of {key}")
