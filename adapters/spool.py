"""
Logs on disk: per job a directory, per attempt a series of files of framed records, an archive and a mark once sealed.

Nothing is synced: what was appended survives the end of the process, not a power cut, which the job does not survive
either. Small writes and reads are done in place, since handing them to a thread costs more than they take; whatever may
take longer goes to a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from adapters.spool_archive import Sealing, load_mark, load_seal, seal_attempt
from adapters.spool_cursors import keep_cursor, load_cursor
from adapters.spool_cutting import begin_dropping, drop_middle
from adapters.spool_file import SEGMENT_BYTES, SpoolFile
from adapters.spool_flags import Flags
from adapters.spool_frames import Packer
from adapters.spool_parts import attempts_in
from adapters.spool_reader import IN_PLACE_BYTES, SpoolReader, run
from adapters.spool_shelf import SpoolShelf
from adapters.spool_tally import Tally
from runner.errors import RunnerError
from runner.job import Key
from runner.ports import Cursor, LogLine, Position, SpoolSeal

SEAL_IN_PLACE_BYTES = 16 << 10
OPEN_MAX = 256


class SpoolStats(msgspec.Struct, frozen=True):
    """How much a job wrote to stdout and stderr so far."""

    lines: int
    bytes: int


class FileSpool:
    """
    The spools of one box under one directory. One process appends; any may read, also while the writer is down.

    ``now_ns`` gives epoch nanoseconds; a new segment begins after each ``segment_bytes``.
    """

    def __init__(self, root: str, now_ns: Callable[[], int], *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._segment_bytes = segment_bytes
        self._shelf = SpoolShelf(root)
        self._now_ns = now_ns
        self._flags = Flags()
        self._packer = Packer()
        # Files open for appending, least recently used first; one closed early is opened again by reading it once.
        self._open: dict[tuple[Key, int], SpoolFile] = {}
        self._opening = asyncio.Lock()
        self._reader = SpoolReader(self._shelf, self._open)
        # Seals under way in a thread; whoever asks again waits for the same one.
        self._sealing: dict[tuple[Key, int], asyncio.Future[SpoolSeal]] = {}
        # Droppings under way in a thread; the next one and the seal wait for them.
        self._dropping: dict[tuple[Key, int], asyncio.Future[int]] = {}

    async def append(self, key: Key, attempt: int, stream: str, data: bytes) -> None:
        if not data:
            return
        file = self._in_use(key, attempt) or await self._opened(key, attempt)
        at_ns = self._now_ns()
        try:
            await run(lambda: file.append(at_ns, stream, data), in_place=len(data) <= IN_PLACE_BYTES)
        finally:
            self._flags.raise_(key)

    async def bytes_written(self, key: Key, attempt: int) -> dict[str, int]:
        mark = load_mark(self._shelf.mark(key, attempt))
        if mark is not None and mark.written is not None:
            return dict(mark.written)
        return (await self._reader.tally(key, attempt)).passed

    async def stats(self, key: Key, attempt: int) -> SpoolStats:
        """Tell how much was written to an attempt's spool until now."""
        tally = await self._reader.tally(key, attempt)
        return SpoolStats(tally.lines, tally.output_bytes)

    async def read(self, key: Key, position: Position, limit_bytes: int = 1 << 20) -> tuple[LogLine, ...]:
        lines, in_place = await self._reader.read(key, position, limit_bytes)
        if not lines and not in_place:
            # An empty answer is looked for again in place, so that nothing is appended before the caller has it.
            lines, _ = await self._reader.read(key, position, limit_bytes)
        return tuple(lines)

    async def flag(self, key: Key) -> None:
        await self._flags.wait(key)

    async def news(self) -> frozenset[Key]:
        return await self._flags.news()

    async def behind(self, key: Key, position: Position) -> int:
        return await self._reader.behind(key, position)

    async def near_end(self, key: Key, size_bytes: int) -> Position:
        return await self._reader.near_end(key, size_bytes)

    async def cursor(self, key: Key, sink: str) -> Cursor | None:
        return load_cursor(self._shelf.cursor(key, sink))

    async def keep_cursor(self, key: Key, sink: str, cursor: Cursor) -> None:
        keep_cursor(self._shelf.cursor(key, sink), cursor)

    async def disk_bytes(self, key: Key) -> int:
        return await asyncio.to_thread(self._shelf.disk_bytes, key)

    async def drop_middle(self, key: Key, attempt: int, head_bytes: int, tail_bytes: int) -> int:
        place = (key, attempt)
        if place in self._sealing or self._shelf.is_sealed(key, attempt):
            return 0
        await self._dropped(place)
        file = self._in_use(key, attempt) or await self._opened(key, attempt)
        if not begin_dropping(file, head_bytes, tail_bytes):
            return 0
        running = asyncio.get_running_loop().run_in_executor(None, drop_middle, file, head_bytes, tail_bytes)
        self._dropping[place] = running
        running.add_done_callback(lambda _: self._dropping.pop(place))
        return await asyncio.shield(running)

    async def shed(self, key: Key) -> None:
        await asyncio.to_thread(self._shelf.shed, key)
        self._reader.look_again(key)

    async def unshed(self) -> tuple[Key, ...]:
        return await asyncio.to_thread(self._shelf.unshed)

    async def seal(self, key: Key, attempt: int) -> SpoolSeal:
        await self._dropped((key, attempt))
        if (running := self._sealing.get((key, attempt))) is not None:
            return await asyncio.shield(running)
        tally = None
        if (file := self._open.pop((key, attempt), None)) is not None:
            file.close()
            tally = file.tally
        elif (seal := load_seal(self._shelf.mark(key, attempt))) is not None:
            return seal
        self._reader.look_again(key)
        try:
            return await self._sealed(key, attempt, tally)
        finally:
            self._flags.raise_(key)

    async def sealed(self, key: Key) -> bool:
        """Tell whether every attempt of this key is sealed; a key without any is not."""
        attempts = attempts_in(self._shelf.directory(key))
        return bool(attempts) and all(self._shelf.is_sealed(key, attempt) for attempt in attempts)

    async def remove(self, key: Key) -> None:
        for place in [place for place in self._open if place[0] == key]:
            self._open.pop(place).close()
        self._reader.forget(key)
        self._flags.forget(key)
        await asyncio.to_thread(self._shelf.delete, key)

    async def prune(self, before: float, keep: frozenset[Key]) -> int:
        old = await asyncio.to_thread(self._shelf.older, before)
        in_use = {key for key, _ in (*self._open, *self._sealing)}
        pruned = [key for key in old if key not in keep and key not in in_use]
        for key in pruned:
            await self.remove(key)
        return len(pruned)

    async def close(self) -> None:
        """Close all files; idempotent."""
        while self._open:
            self._open.popitem()[1].close()

    def _in_use(self, key: Key, attempt: int) -> SpoolFile | None:
        file = self._open.pop((key, attempt), None)
        if file is not None:
            self._open[key, attempt] = file
        return file

    async def _opened(self, key: Key, attempt: int) -> SpoolFile:
        async with self._opening:
            if (file := self._open.get((key, attempt))) is not None:
                return file
            if (key, attempt) in self._sealing or self._shelf.is_sealed(key, attempt):
                raise RunnerError(f"cannot add to the log of job {key}, attempt {attempt}: it is sealed")
            directory = self._shelf.directory(key)
            in_place = self._reader.size_of_last(key, attempt) <= IN_PLACE_BYTES
            file = await run(
                lambda: SpoolFile(directory, attempt, self._packer, self._segment_bytes), in_place=in_place
            )
            self._open[key, attempt] = file
            self._reader.note(key)
            if len(self._open) > OPEN_MAX:
                self._close(next(iter(self._open)))
            return file

    def _close(self, place: tuple[Key, int]) -> None:
        self._open.pop(place).close()
        self._reader.look_again(place[0])

    async def _sealed(self, key: Key, attempt: int, tally: Tally | None) -> SpoolSeal:
        archive, mark = self._shelf.archive(key, attempt), self._shelf.mark(key, attempt)
        it = Sealing(self._shelf.directory(key), attempt, archive, mark, tally)
        if self._reader.stored_bytes(key, attempt) <= SEAL_IN_PLACE_BYTES:
            return seal_attempt(it)
        running = asyncio.get_running_loop().run_in_executor(None, seal_attempt, it)
        self._sealing[key, attempt] = running
        running.add_done_callback(lambda _: self._sealing.pop((key, attempt)))
        return await asyncio.shield(running)

    async def _dropped(self, place: tuple[Key, int]) -> None:
        while (running := self._dropping.get(place)) is not None:
            await asyncio.wait([running])
