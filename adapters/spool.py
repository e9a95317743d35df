"""
Logs on disk: per job a directory, per attempt one file of framed records, an archive and a mark once it is sealed.

Nothing is synced: what was appended survives the end of the process, not a power cut, which the job does not survive
either. Small writes and reads are done in place, since handing them to a thread costs more than they take; whatever may
take longer goes to a thread.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

import msgspec

from adapters.spool_archive import load_seal, seal_file
from adapters.spool_cursors import keep_cursor, load_cursor
from adapters.spool_file import SpoolFile, Tally, tally_of
from adapters.spool_flags import Flags
from adapters.spool_reading import REMEMBERED_MAX, Places, Stretch, attempts_in, read_stretches
from adapters.spool_shelf import SpoolShelf, size_of
from runner.errors import RunnerError
from runner.job import Key
from runner.ports import Cursor, LogLine, Position, SpoolSeal

T = TypeVar("T")
IN_PLACE_BYTES = 128 << 10
SEAL_IN_PLACE_BYTES = 16 << 10
OPEN_MAX = 256


class SpoolStats(msgspec.Struct, frozen=True):
    """How much a job wrote to stdout and stderr so far."""

    lines: int
    bytes: int


class FileSpool:
    """
    The spools of one box under one directory. One process appends; any may read, also while the writer is down.

    ``now_ns`` gives epoch nanoseconds.
    """

    def __init__(self, root: str, now_ns: Callable[[], int]) -> None:
        self._shelf = SpoolShelf(root)
        self._now_ns = now_ns
        self._flags = Flags()
        self._places = Places()
        # Files open for appending, least recently used first; one closed early is opened again by reading it once.
        self._open: dict[tuple[Key, int], SpoolFile] = {}
        self._opening = asyncio.Lock()
        # The attempts of the logs that were opened last: nobody else adds any to those.
        self._attempts: OrderedDict[Key, list[int]] = OrderedDict()
        # Seals under way in a thread; whoever asks again waits for the same one.
        self._sealing: dict[tuple[Key, int], asyncio.Future[SpoolSeal]] = {}

    async def append(self, key: Key, attempt: int, stream: str, data: bytes) -> None:
        if not data:
            return
        file = self._in_use(key, attempt) or await self._opened(key, attempt)
        at_ns = self._now_ns()
        try:
            await _run(lambda: file.append(at_ns, stream, data), in_place=len(data) <= IN_PLACE_BYTES)
        finally:
            self._flags.raise_(key)

    async def bytes_written(self, key: Key, attempt: int) -> dict[str, int]:
        return dict((await self._tally(key, attempt)).bytes)

    async def stats(self, key: Key, attempt: int) -> SpoolStats:
        """Tell how much stands in an attempt's spool now."""
        tally = await self._tally(key, attempt)
        return SpoolStats(tally.lines, tally.output_bytes)

    async def read(self, key: Key, position: Position, limit_bytes: int = 1 << 20) -> tuple[LogLine, ...]:
        lines, in_place = await self._read(key, position, limit_bytes)
        if not lines and not in_place:
            # An empty answer is looked for again in place, so that nothing is appended before the caller has it.
            lines, _ = await self._read(key, position, limit_bytes)
        return tuple(lines)

    async def flag(self, key: Key) -> None:
        await self._flags.wait(key)

    async def news(self) -> frozenset[Key]:
        return await self._flags.news()

    async def behind(self, key: Key, position: Position) -> int:
        attempts = [attempt for attempt in self._attempts_of(key) if attempt >= position.attempt]
        stretches = [self._stretch(key, attempt, position) for attempt in attempts]
        return sum(stretch.end - stretch.offset for stretch in stretches)

    async def near_end(self, key: Key, size_bytes: int) -> Position:
        position = Position()
        while await self.behind(key, position) > size_bytes and (lines := await self.read(key, position)):
            position = Position(lines[-1].attempt, lines[-1].sequence + 1)
        return position

    async def cursor(self, key: Key, sink: str) -> Cursor | None:
        return load_cursor(self._shelf.cursor(key, sink))

    async def keep_cursor(self, key: Key, sink: str, cursor: Cursor) -> None:
        keep_cursor(self._shelf.cursor(key, sink), cursor)

    async def disk_bytes(self, key: Key) -> int:
        return await asyncio.to_thread(self._shelf.disk_bytes, key)

    async def drop_middle(self, key: Key, attempt: int, head_bytes: int, tail_bytes: int) -> int:
        raise RunnerError(f"the log of job {key} cannot be cut ({attempt}, {head_bytes}, {tail_bytes})")

    async def shed(self, key: Key) -> None:
        self._flags.raise_(key)

    async def unshed(self) -> tuple[Key, ...]:
        return await asyncio.to_thread(self._shelf.unshed)

    async def seal(self, key: Key, attempt: int) -> SpoolSeal:
        if (running := self._sealing.get((key, attempt))) is not None:
            return await asyncio.shield(running)
        if (file := self._open.pop((key, attempt), None)) is not None:
            file.close()
        elif (seal := load_seal(self._shelf.mark(key, attempt))) is not None:
            return seal
        else:
            self._attempts.pop(key, None)  # one that wrote nothing begins to be there now
        try:
            return await self._sealed(key, attempt, is_silent=file is not None and not file.tally.output_bytes)
        finally:
            self._flags.raise_(key)

    async def sealed(self, key: Key) -> bool:
        """Tell whether every attempt of this key is sealed; a key without any is not."""
        attempts = attempts_in(self._shelf.directory(key))
        return bool(attempts) and all(self._shelf.is_sealed(key, attempt) for attempt in attempts)

    async def remove(self, key: Key) -> None:
        for place in [place for place in self._open if place[0] == key]:
            self._open.pop(place).close()
        self._places.forget(key)
        self._attempts.pop(key, None)
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
            path = self._shelf.spool(key, attempt)
            if (key, attempt) in self._sealing or self._shelf.is_sealed(key, attempt):
                raise RunnerError(f"cannot add to the log of job {key}, attempt {attempt}: it is sealed")
            file = await _run(lambda: SpoolFile(path), in_place=size_of(path) <= IN_PLACE_BYTES)
            self._open[key, attempt] = file
            self._note_attempts(key)
            if len(self._open) > OPEN_MAX:
                self._open.pop(next(iter(self._open))).close()
            return file

    def _note_attempts(self, key: Key) -> None:
        self._attempts[key] = attempts_in(self._shelf.directory(key))
        self._attempts.move_to_end(key)
        if len(self._attempts) > REMEMBERED_MAX:
            self._attempts.popitem(last=False)

    def _attempts_of(self, key: Key) -> list[int]:
        known = self._attempts.get(key)
        return attempts_in(self._shelf.directory(key)) if known is None else known

    async def _sealed(self, key: Key, attempt: int, *, is_silent: bool) -> SpoolSeal:
        spool, archive, mark = (
            path(key, attempt) for path in (self._shelf.spool, self._shelf.archive, self._shelf.mark)
        )
        if is_silent or size_of(spool) <= SEAL_IN_PLACE_BYTES:
            return seal_file(spool, archive, mark, is_silent=is_silent)
        running = asyncio.get_running_loop().run_in_executor(None, seal_file, spool, archive, mark)
        self._sealing[key, attempt] = running
        running.add_done_callback(lambda _: self._sealing.pop((key, attempt)))
        return await asyncio.shield(running)

    async def _tally(self, key: Key, attempt: int) -> Tally:
        if (file := self._open.get((key, attempt))) is not None:
            return file.tally
        path = self._shelf.spool(key, attempt)
        return await _run(lambda: tally_of(path), in_place=size_of(path) <= IN_PLACE_BYTES)

    async def _read(self, key: Key, position: Position, limit_bytes: int) -> tuple[list[LogLine], bool]:
        """Read once; also tell whether it was done without giving way to anybody."""
        attempts = [attempt for attempt in self._attempts_of(key) if attempt >= position.attempt]
        stretches = [self._stretch(key, attempt, position) for attempt in attempts]
        in_place = sum(stretch.end - stretch.offset for stretch in stretches) <= IN_PLACE_BYTES
        files = (self._open.get((key, attempt)) for attempt in attempts) if in_place else ()
        opened = {file.path: file.descriptor for file in files if file is not None}
        lines, places = await _run(lambda: read_stretches(stretches, limit_bytes, opened), in_place=in_place)
        for place, offset in places.items():
            self._places.keep(key, place, offset)
        return lines, in_place

    def _stretch(self, key: Key, attempt: int, position: Position) -> Stretch:
        wanted = position.sequence if attempt == position.attempt else 0
        offset = self._places.find(key, Position(attempt, wanted))
        path = self._shelf.spool(key, attempt)
        file = self._open.get((key, attempt))
        end = file.size if file is not None else size_of(path)
        return Stretch(attempt, path, wanted, 0 if offset is None else wanted, offset or 0, end)


async def _run(work: Callable[[], T], *, in_place: bool) -> T:
    return work() if in_place else await asyncio.to_thread(work)
