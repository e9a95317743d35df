"""
A container's output from any byte on, nothing lost and nothing twice, whatever happened to the runner or the engine.

A container that we start is attached to before it starts: its output arrives as it is written, also lines that have not
ended. Where an attachment begins that is made later cannot be known, so everything else is read from the engine's kept
log, which is followed and at the end read once more: it never rotates below the log budget, and starts at byte 0.
Where it does not start there any more, a gap is told, and what the job prints from then on is read as it is written.

An engine that ends under a container which it keeps takes with it what it had handed on and not logged, as a line is
that has not ended: so much less is skipped then where one reads on.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass, field
from typing import Any

from adapters.containers.docker_attachment import Attachment, open_attachment
from adapters.containers.docker_engine import Engine, EngineRefusal
from adapters.containers.docker_log import STREAMS, KeptLog, LogUnreadable
from adapters.containers.docker_log_begin import log_begin
from adapters.containers.docker_others import was_replaced
from adapters.containers.docker_state import Inspected
from adapters.containers.gaps import gap_chunk
from adapters.redaction import context_of
from runner.errors import Unavailable
from runner.ports import Chunk

CHUNK_MAX_BYTES = 256 << 10
QUIET_S = 2.0
"""After so long without output one looks whether the container still runs."""
EXIT_PATIENCE_S = 1.0
"""A container whose streams ended is gone within this, or else they were cut and it is read on from its log."""
RESTART_S = 0.5
"""No engine restarts faster; so one that dates the exit at most this much after the end of the streams saw both."""

_DAMAGED = (
    "the Docker engine's log of the job was deleted, cut off or grew beyond its limit while nobody read it: "
    "what the job printed meanwhile is missing"
)
Look = Callable[[], Awaitable[Inspected | None]]


async def until_ended(engine: Engine, container_id: str, limit_s: float) -> None:
    """Return when the container does not run, was removed, or after ``limit_s``."""
    with suppress(EngineRefusal):
        async with engine.call(f"wait for container {container_id}", limit_s + engine.answer_s) as docker:
            with suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await docker.containers.container(container_id).wait()


async def last_error_line(engine: Engine, container_id: str) -> str:
    """Return the last line that a container wrote to stderr, empty where there is none."""
    with suppress(EngineRefusal):
        async with engine.call(f"read the last line of container {container_id}") as docker:
            query = {"stdout": 0, "stderr": 1, "details": 1, "tail": 1}
            async with engine.send(docker, "GET", f"containers/{container_id}/logs", **query) as answer:
                chunks = KeptLog({}).feed(await answer.read())
        return b"".join(chunk.data for chunk in chunks).decode(errors="replace").strip()
    return ""


@dataclass
class Cut:
    """Where the streams of one container broke off, for all its readings in one life of the runner."""

    # Epoch seconds; None: they did not, or what went down with the engine is known.
    at: float | None = None
    # Bytes of each stream that the reader has and the kept log lacks.
    lacks: Counter[str] = field(default_factory=Counter)
    # The time of the first entry of the kept log, empty where nobody noted it; None: not looked for yet.
    begins: str | None = None
    # What was read as it was written, and how much the kept log surely holds, 0 where that is not known.
    live_bytes: int = 0
    budget_bytes: int = 0
    # How far one came in the kept log before the engine said that it cannot read on there.
    unreadable_at: int = -1


class JobOutput:
    """
    One reading of one container's output.

    Args:
        look: describes the container now; None where it is gone.
        now: wall time, by the same clock as the engine's.
        skip: bytes of each stream that the reader has already.
        cut: what an earlier reading found, and the next shall know.
    """

    def __init__(self, engine: Engine, look: Look, now: Callable[[], float], skip: Mapping[str, int], cut: Cut) -> None:
        self._engine, self._look, self._now, self._cut = engine, look, now, cut
        # How many bytes of each stream in the kept log the reader has; where to go on after anything broke.
        self._has = {stream: max(0, skip.get(stream, 0) - cut.lacks[stream]) for stream in STREAMS}
        # How many bytes of each stream are given once more at first, for who must see what stood before; set as reading
        # of the kept log begins, since only then is it known what that lacks.
        self.context: dict[str, int] = {}
        self._has_begun = False
        # Set once a gap was told because the kept log is damaged.
        self._is_damaged = False

    async def chunks(self, attachment: Attachment | None) -> AsyncGenerator[Chunk, None]:
        """
        Yield the output to its end; with an attachment from before the start, as it is written.

        Raises:
            Unavailable: the engine went away; read again with what was read so far as ``skip``.
        """
        if attachment is not None:
            self._has_begun = True
            async for chunk in self._relayed(self._attached(attachment)):
                yield chunk
            self._cut.at = self._now()
            if await self._is_whole(self._cut.at):
                return
        while (found := await self._look()) is not None and found.was_started:
            await self._mend(found)
            async for chunk in self._relayed(self._kept(found)):
                yield chunk
            if found.has_ended:
                return
            await until_ended(self._engine, found.id, QUIET_S)

    async def _relayed(self, source: AsyncGenerator[Chunk, None]) -> AsyncGenerator[Chunk, None]:
        async with aclosing(source):
            async for chunk in source:
                for piece in self._counted(chunk):
                    yield piece

    def _counted(self, chunk: Chunk) -> Iterator[Chunk]:
        if chunk.stream not in self._has:
            yield chunk
            return
        for begin in range(0, len(chunk.data), CHUNK_MAX_BYTES):
            piece = Chunk(chunk.stream, chunk.data[begin : begin + CHUNK_MAX_BYTES])
            self._has[chunk.stream] += len(piece.data)
            yield piece

    async def _attached(self, attachment: Attachment) -> AsyncGenerator[Chunk, None]:
        while True:
            try:
                async with asyncio.timeout(QUIET_S):
                    chunks = await attachment.read()
            except TimeoutError:
                if await self._has_ended():
                    return
                continue
            if chunks is None:
                return
            for chunk in chunks:
                self._cut.live_bytes += len(chunk.data)
                yield chunk

    async def _is_whole(self, ended_at: float) -> bool:
        """Tell whether the attachment ended because the container did, and not because the engine was replaced."""
        found = await self._look()
        if found is not None and not found.has_ended:
            await until_ended(self._engine, found.id, EXIT_PATIENCE_S)
            found = await self._look()
        return found is None or (found.has_ended and found.ended_at <= ended_at + RESTART_S)

    async def _has_ended(self) -> bool:
        found = await self._look()
        return found is None or found.has_ended

    async def _mend(self, found: Inspected) -> None:
        """Find out what went down with the engine that the streams broke off with."""
        at = self._cut.at
        if at is not None and await was_replaced(self._engine, found.id, self._now()):
            self._cut.lacks = Counter(self._has) - await self._logged(found.id, at)
            self._has = {stream: self._has[stream] - self._cut.lacks[stream] for stream in STREAMS}
        self._cut.at = None

    async def _logged(self, container_id: str, until: float) -> Counter[str]:
        """Count what the kept log has of each stream from before a moment."""
        log, counts = KeptLog({}), Counter[str]()
        async with AsyncExitStack() as stack:
            answer = await self._open_log(stack, container_id, follow=0, until=f"{until:.6f}")
            while data := await self._next(answer, follow=False):
                for chunk in log.feed(data):
                    counts[chunk.stream] += len(chunk.data)
        return counts

    async def _kept(self, found: Inspected) -> AsyncGenerator[Chunk, None]:
        """Read the kept log; where it is damaged tell that, and of a container that runs read what it writes."""
        if not self._is_damaged and await self._begins_as_it_did(found):
            try:
                async with aclosing(self._from_the_log(found)) as chunks:
                    async for chunk in chunks:
                        yield chunk
            except LogUnreadable:
                # It may be only busy: given up where a second reading comes no further.
                if (reached := sum(self._has.values())) > self._cut.unreadable_at:
                    self._cut.unreadable_at = reached
                    raise
            else:
                return
        async for chunk in self._beside_the_log(found):
            yield chunk

    async def _from_the_log(self, found: Inspected) -> AsyncGenerator[Chunk, None]:
        """Read the kept log; of a container that runs, follow it for as long as it may grow."""
        self._begin()
        log = KeptLog(self._has)
        follow = not found.has_ended
        async with AsyncExitStack() as stack:
            answer = await self._open_log(stack, found.id, follow=int(follow))
            while data := await self._next(answer, follow=follow):
                for chunk in log.feed(data):
                    yield chunk

    def _begin(self) -> None:
        """Go back as far as the context reaches, once."""
        if not self._has_begun:
            self._has_begun = True
            self.context |= context_of(self._has)
            self._has = {stream: self._has[stream] - self.context[stream] for stream in STREAMS}

    async def _begins_as_it_did(self, found: Inspected) -> bool:
        try:
            begins = await log_begin(self._engine, found.id)
        except LogUnreadable:
            return False
        except EngineRefusal as refusal:
            refusal.unless_absent()
            return True
        if self._cut.begins:
            return begins == self._cut.begins
        return bool(begins) or not found.has_ended or not any(self._has.values())

    async def _beside_the_log(self, found: Inspected) -> AsyncGenerator[Chunk, None]:
        """Tell once that something is missing; of a container that runs, read what it writes from now on."""
        attachment = None if found.has_ended else await open_attachment(self._engine, found.id)
        if not self._is_damaged or attachment is not None:
            yield gap_chunk(_DAMAGED)
        self._is_damaged = True
        if attachment is not None:
            try:
                async for chunk in self._attached(attachment):
                    yield chunk
            finally:
                await attachment.close()

    async def _open_log(self, stack: AsyncExitStack, container_id: str, **which: str | int) -> Any:
        query = {"stdout": 1, "stderr": 1, "details": 1, **which}
        try:
            async with self._engine.call(f"read the log of container {container_id}") as docker:
                reading = self._engine.send(docker, "GET", f"containers/{container_id}/logs", **query)
                return await stack.enter_async_context(reading)
        except EngineRefusal as refusal:
            return refusal.unless_absent()

    async def _next(self, answer: Any, *, follow: bool) -> bytes:
        """Return what arrives next; nothing at the end, or where a log that is followed will not grow any more."""
        if answer is None:
            return b""
        while True:
            try:
                return await self._arriving(answer, QUIET_S if follow else self._engine.answer_s)
            except TimeoutError as error:
                if not follow:
                    raise Unavailable(f"Docker at {self._engine.url} stopped in the middle of a log") from error
            if await self._has_ended():
                return b""

    async def _arriving(self, answer: Any, limit_s: float) -> bytes:
        import aiohttp

        try:
            async with asyncio.timeout(limit_s):
                return bytes(await answer.content.readany())
        except aiohttp.ClientError as error:
            raise Unavailable(f"Docker at {self._engine.url} broke off in the middle of a log: {error}") from error
