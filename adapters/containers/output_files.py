"""
Follows the raw output files of one container while somebody writes them, to their end.

Reads what stands in memory at once and goes through a thread only where the disk must be waited for. While nothing is
written nothing is done: the kernel tells when something is, where it can, and a slow look stands behind that.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
from collections.abc import AsyncGenerator, Callable, Sequence

from adapters.containers.gaps import gap_chunk
from adapters.containers.notices import Notices
from adapters.files import explained
from runner.ports import Chunk

CHUNK_MAX_BYTES = 256 << 10
BUSY_PAUSE_S = 0.02
IDLE_PAUSE_S = 0.25
"""Ten looks a second would take 0.2 % of a core from a job that measures, four take half of that."""
NOTICED_PAUSE_S = 2.0
"""Where the kernel tells what is written one looks only in case it does not."""
BACK_OFF = 1.25
LEFTOVER_LIMIT_S = 10.0
_LEFT = (
    f"processes that the job left behind hold its output open: what they print after {LEFTOVER_LIMIT_S:g} s is missing"
)
_CUT = "something cut off the file that the job's {} goes to: what it printed before may be missing"


class OutputFile:
    """
    One stream's file, read from an offset on, or ``context`` bytes earlier where it stands as far as that.
    """

    def __init__(self, stream: str, path: str, offset: int, context: int = 0) -> None:
        self.stream = stream
        self.path = path
        # Its size where it has less than was read of it: its job cut it off, or somebody deleted it.
        self.cut_at: int | None = None
        self._offset = offset
        # Taken off the offset once the file was seen to reach as far.
        self._context = context
        # Opened by the first use, since a container can be attached to before it has files.
        self._descriptor = -1
        # Nothing is read from here on, once that is decided.
        self._end: int | None = None

    async def read(self) -> bytes:
        """
        Return what comes next, at most 256 KiB; empty where nothing is there yet.

        Raises:
            Unavailable: it cannot be read now.
        """
        with explained(f"read what a job wrote to {self.stream}", self.path):
            return await self._read()

    async def _read(self) -> bytes:
        length = min(CHUNK_MAX_BYTES, self.size() - self._offset)
        if length <= 0:
            return b""
        data = self._read_from_memory(length)
        if data is None:
            data = await asyncio.to_thread(os.pread, self._descriptor, length, self._offset)
        self._offset += len(data)
        return data

    def size(self) -> int:
        """Tell how much may be read of it; of one that was cut off, what was there does not come again."""
        size = os.fstat(self._descriptor).st_size if self._is_open() else 0
        if size < self._offset:
            self._offset, self._context, self.cut_at = size, 0, size
        self._offset, self._context = self._offset - self._context, 0
        return size if self._end is None else min(size, self._end)

    @property
    def offset(self) -> int:
        """Where the next byte is."""
        return self._offset

    def is_held(self) -> bool | None:
        """
        Tell whether some process still has the file open for writing; None where that cannot be told.

        The kernel leases a file to a reader only while nobody has.
        """
        if not self._is_open():
            return False
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_SETSIG, signal.SIGURG)  # ignored, where the usual SIGIO would kill
            fcntl.fcntl(self._descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(self._descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except BlockingIOError:
            return True
        except OSError:
            return None
        return False

    def end_here(self) -> None:
        """Read no further than what is there now."""
        if self._end is None and self._is_open():
            self._end = os.fstat(self._descriptor).st_size

    def close(self) -> None:
        """Close the file; idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _is_open(self) -> bool:
        if self._descriptor < 0:
            with contextlib.suppress(FileNotFoundError):
                self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        return self._descriptor >= 0

    def _read_from_memory(self, length: int) -> bytes | None:
        """Return what needs no waiting for a disk; None where only a thread may find out."""
        buffer = bytearray(length)
        try:
            length = os.preadv(self._descriptor, [buffer], self._offset, os.RWF_NOWAIT)
        except OSError:
            return None
        return bytes(memoryview(buffer)[:length])


class Follower:
    """
    Both streams of one container.

    Args:
        ended: done once the container ended.
        has_leftovers: whether some process of it lives on; asked only where the files cannot tell.
        notices: who tells that a file was written to; without it they are looked at.
    """

    def __init__(
        self,
        files: Sequence[OutputFile],
        ended: asyncio.Future[None],
        has_leftovers: Callable[[], bool],
        notices: Notices | None = None,
    ) -> None:
        self._files = files
        self._notices = notices
        self._ended = ended
        self._has_leftovers = has_leftovers
        self._give_up_at: float | None = None
        # Over is also what somebody still holds open after so long.
        self._over = self._is_given_up = False

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
        """
        Yield what the files hold until the container ended and nobody can write any more.

        Processes that outlive the container and hold the files are waited for, ten seconds at most.
        """
        pause_s = BUSY_PAUSE_S
        try:
            while True:
                # Asked before the reading, so that all that was written up to then is read.
                over = self._is_over()
                sizes = []
                # In turns, so that a flood in one stream cannot hold up the other.
                for file in self._files:
                    data = await file.read()
                    if file.cut_at is not None:
                        yield gap_chunk(_CUT.format(file.stream), file.stream, file.cut_at)
                        file.cut_at = None
                    if data:
                        sizes.append(len(data))
                        yield Chunk(file.stream, data)
                if over and not sizes:
                    if self._is_given_up:
                        yield gap_chunk(_LEFT)
                    return
                pause_s = BUSY_PAUSE_S if sizes else min(IDLE_PAUSE_S, pause_s * BACK_OFF)
                # With more at hand only others get their turn.
                await (asyncio.sleep(0) if over or CHUNK_MAX_BYTES in sizes else self._pause(pause_s))
        finally:
            for file in self._files:
                file.close()

    def _is_over(self) -> bool:
        """Tell whether nothing may follow what is there now; once true, it stays so."""
        if self._over or not self._ended.done():
            return self._over
        now = asyncio.get_running_loop().time()
        if self._give_up_at is None:
            self._give_up_at = now + LEFTOVER_LIMIT_S
        is_held = self._is_held()
        self._is_given_up = is_held and now >= self._give_up_at
        self._over = self._is_given_up or not is_held
        if self._over:
            for file in self._files:
                file.end_here()
        return self._over

    def _is_held(self) -> bool:
        held = [file.is_held() for file in self._files]
        return True in held or (None in held and self._has_leftovers())

    async def _pause(self, pause_s: float) -> None:
        if self._ended.done():
            await asyncio.sleep(pause_s)
        elif self._notices is None or pause_s <= BUSY_PAUSE_S:
            await asyncio.wait({self._ended}, timeout=pause_s)
        else:
            with self._notices.of([file.path for file in self._files]) as change:
                if all(file.size() <= file.offset for file in self._files):
                    limit_s = NOTICED_PAUSE_S if change.is_sure else pause_s
                    waits = {self._ended, change.written}
                    await asyncio.wait(waits, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
