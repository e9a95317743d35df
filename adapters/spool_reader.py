"""
The reading side of the spools on a box: where each reader goes on, and what is done in place.

Files may be dropped, shed or removed while they are read; then the log is looked at anew.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TypeVar

from adapters.spool_archive import load_mark
from adapters.spool_file import SpoolFile
from adapters.spool_measuring import bytes_behind, record_near_end, tally_of
from adapters.spool_parts import Part, attempts_in, parts_from
from adapters.spool_reading import REMEMBERED_MAX, PartGoneError, Place, Places, Stretch, read_stretches
from adapters.spool_shelf import SpoolShelf, size_of
from adapters.spool_tally import Tally
from runner.errors import Unavailable
from runner.job import Key
from runner.ports import LogLine, Position

T = TypeVar("T")
IN_PLACE_BYTES = 128 << 10
IN_PLACE_PARTS = 4
LOOKS_MAX = 5

_Read = tuple[list[LogLine], dict[Position, Place]]


class SpoolReader:
    """Reads and measures logs; ``opened`` has the files that are open for appending."""

    def __init__(self, shelf: SpoolShelf, opened: Mapping[tuple[Key, int], SpoolFile]) -> None:
        self._shelf = shelf
        self._open = opened
        self._places = Places()
        # The parts of the logs that were opened last; an open file knows its own, and nobody else adds any.
        self._layouts: OrderedDict[Key, dict[int, tuple[Part, ...]]] = OrderedDict()

    def note(self, key: Key) -> None:
        """Remember which parts a log has, now that it was opened for appending."""
        self._layouts[key] = attempts_in(self._shelf.directory(key))
        self._layouts.move_to_end(key)
        if len(self._layouts) > REMEMBERED_MAX:
            self._layouts.popitem(last=False)

    def look_again(self, key: Key) -> None:
        """Look at the directory from now on."""
        self._layouts.pop(key, None)

    def forget(self, key: Key) -> None:
        """Drop what is known of a log."""
        self.look_again(key)
        self._places.forget(key)

    async def read(self, key: Key, position: Position, limit_bytes: int) -> tuple[list[LogLine], bool]:
        """Read once; also tell whether it was done without giving way to anybody."""
        return await self._looked(key, lambda: self._read(key, position, limit_bytes))

    async def behind(self, key: Key, position: Position) -> int:
        """Tell how many bytes stand from a position on."""
        return await self._looked(key, lambda: self._behind(key, position))

    async def near_end(self, key: Key, size_bytes: int) -> Position:
        """Return the first position behind which at most so many bytes stand."""
        return await self._looked(key, lambda: self._near_end(key, size_bytes))

    async def tally(self, key: Key, attempt: int) -> Tally:
        """Count what was written to an attempt."""
        return await self._looked(key, lambda: self._tally(key, attempt))

    def size_of_last(self, key: Key, attempt: int) -> int:
        """Return how large the file is that would be read to append to an attempt."""
        return self._stored_bytes(key, attempt, self._layout(key).get(attempt, ())[-1:])

    def stored_bytes(self, key: Key, attempt: int) -> int:
        """Return how large the files of an attempt are, together."""
        return self._stored_bytes(key, attempt, self._layout(key).get(attempt, ()))

    async def _read(self, key: Key, position: Position, limit_bytes: int) -> tuple[list[LogLine], bool]:
        stretches = self._stretches(key, position)
        if in_place := self._is_small(key, stretches):
            lines, places = self._read_in_place(key, stretches, limit_bytes)
        else:
            lines, places = await asyncio.to_thread(read_stretches, stretches, limit_bytes)
        for reached, place in places.items():
            self._places.keep(key, reached, place)
        return lines, in_place

    def _read_in_place(self, key: Key, stretches: list[Stretch], limit_bytes: int) -> _Read:
        opened: dict[str, int] = {}
        with ExitStack() as files:
            for stretch in stretches:
                if (file := self._open.get((key, stretch.attempt))) is not None:
                    opened |= files.enter_context(file.readable())
            return read_stretches(stretches, limit_bytes, opened)

    async def _behind(self, key: Key, position: Position) -> int:
        stretches = self._stretches(key, position)
        ends = [await self._end_bytes(key, stretch.attempt) for stretch in stretches]
        work = lambda: sum(map(bytes_behind, stretches, ends))  # noqa: E731 - one call, named
        return await run(work, in_place=self._is_small(key, stretches) or _are_known(stretches))

    async def _near_end(self, key: Key, size_bytes: int) -> Position:
        position = Position()
        for stretch in reversed(self._stretches(key, position)):
            end = await self._end_bytes(key, stretch.attempt)
            standing = await asyncio.to_thread(bytes_behind, stretch, end)
            if standing > size_bytes:
                record = await asyncio.to_thread(record_near_end, stretch, end, size_bytes)
                return Position(stretch.attempt, record)
            size_bytes -= standing
        return position

    async def _tally(self, key: Key, attempt: int) -> Tally:
        if (file := self._open.get((key, attempt))) is not None:
            return file.tally
        parts = self._layout(key).get(attempt, ())
        in_place = self._stored_bytes(key, attempt, parts[-1:]) <= IN_PLACE_BYTES
        return await run(lambda: tally_of(parts), in_place=in_place)

    async def _end_bytes(self, key: Key, attempt: int) -> int:
        if (file := self._open.get((key, attempt))) is not None:
            return file.tally.all_bytes
        mark = load_mark(self._shelf.mark(key, attempt))
        if mark is not None and mark.all_bytes is not None:
            return mark.all_bytes
        return (await self._tally(key, attempt)).all_bytes

    async def _looked(self, key: Key, look: Callable[[], Awaitable[T]]) -> T:
        for _ in range(LOOKS_MAX):
            try:
                return await look()
            except PartGoneError:
                self.look_again(key)
        raise Unavailable(f"reading the log of job {key}: its files went away as they were read: try again")

    def _layout(self, key: Key) -> dict[int, tuple[Part, ...]]:
        known = self._layouts.get(key)
        if known is None:
            return attempts_in(self._shelf.directory(key))
        files = ((attempt, self._open.get((key, attempt))) for attempt in known)
        return {attempt: known[attempt] if file is None else file.parts for attempt, file in files}

    def _stretches(self, key: Key, position: Position) -> list[Stretch]:
        layout = self._layout(key)
        return [
            self._stretch(key, attempt, layout[attempt], position) for attempt in layout if attempt >= position.attempt
        ]

    def _stretch(self, key: Key, attempt: int, parts: tuple[Part, ...], position: Position) -> Stretch:
        wanted = position.sequence if attempt == position.attempt else 0
        return Stretch(attempt, parts, wanted, self._places.find(key, Position(attempt, wanted)))

    def _is_small(self, key: Key, stretches: list[Stretch]) -> bool:
        left = IN_PLACE_BYTES
        for stretch in stretches:
            parts = parts_from(stretch.parts, stretch.wanted)
            if len(parts) > IN_PLACE_PARTS:
                return False
            left -= self._stored_bytes(key, stretch.attempt, parts)
            if parts and (place := stretch.place) is not None and place.path == parts[0].path:
                left += place.offset
        return left >= 0

    def _stored_bytes(self, key: Key, attempt: int, parts: Sequence[Part]) -> int:
        file = self._open.get((key, attempt))
        sizes = (file.size if file is not None and part.path == file.path else size_of(part.path) for part in parts)
        return sum(sizes)


def _are_known(stretches: list[Stretch]) -> bool:
    """Tell whether nothing must be scanned to measure them."""
    firsts = [(stretch, parts_from(stretch.parts, stretch.wanted)) for stretch in stretches]
    return all(
        not stretch.wanted or (stretch.place is not None and bool(parts) and stretch.place.path == parts[0].path)
        for stretch, parts in firsts
    )


async def run(work: Callable[[], T], *, in_place: bool) -> T:
    """Do blocking work here or in a thread."""
    return work() if in_place else await asyncio.to_thread(work)
