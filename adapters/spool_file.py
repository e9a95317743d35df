"""
One attempt's spool, open for appending: its last segment, and the tally of all that was written.

Blocking: a write to the page cache takes microseconds; opening reads the last segment once.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from adapters.files import OWNER_FILE, explained, make_directory, remove_file
from adapters.spool_frames import Packer, encode, frames, frames_needed
from adapters.spool_parts import (
    Head,
    Kind,
    Part,
    attempts_in,
    delete_covered,
    head_of,
    put_part,
    segment_path,
    with_heads,
)
from adapters.spool_tally import HEADER, Tally
from runner.errors import RunnerError

SEGMENT_BYTES = 4 << 20


class SpoolFile:
    """
    The one writer of an attempt. Opening makes the first segment where there is none and cuts off a torn end.

    Raises:
        OutOfSpace: the disk is full.
        Unavailable: a file cannot be opened.
        ConfigurationError: another version wrote it.
    """

    def __init__(self, directory: str, attempt: int, packer: Packer, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.directory = directory
        self.attempt = attempt
        self.packer = packer
        self.tally = Tally()
        # The last segment: how large it is, and how much had been written before it.
        self.size = 0
        self._bytes_before = 0
        # From this size on, stored or unpacked, the next record begins a segment.
        self.segment_bytes = segment_bytes
        # A cancelled append may still be writing in a thread when the next one comes.
        self._lock = threading.Lock()
        with explained("opening a log", directory):
            make_directory(directory)
            found = attempts_in(directory).get(attempt, ())
            self.parts = with_heads(found)
            for part in found[len(self.parts) :]:
                remove_file(part.path)
            if not self.parts:
                self.parts = (Part(segment_path(directory, attempt, 0), Kind.SEGMENT),)
            self._descriptor = _open(self.path)
        try:
            self._recover()
        except BaseException:
            os.close(self._descriptor)
            raise

    @property
    def path(self) -> str:
        """The segment that is written to."""
        return self.parts[-1].path

    @property
    def segment_size(self) -> int:
        """How many bytes were appended to the last segment."""
        return self.tally.all_bytes - self._bytes_before

    def append(self, at_ns: int, stream: str, data: bytes) -> None:
        """
        Write some bytes, all of them or none.

        Raises:
            OutOfSpace: the disk is full; nothing was written.
            RunnerError: the file was closed, or there is no such stream.
        """
        encoded = encode(at_ns, stream, data, self.packer)
        with self._lock, explained("adding to a log", self.path):
            if self._descriptor < 0:
                raise RunnerError(f"cannot append to the log {self.path}: it was closed")
            if max(self.size, self.segment_size) >= self.segment_bytes:
                self._rotate()
            self._write(encoded)
            self.tally.add(stream, data, frames_needed(len(data)))

    def rotate(self, least_bytes: int) -> None:
        """Begin a segment where at least so much was appended to the last one."""
        with self._lock, explained("adding to a log", self.path):
            if self._descriptor >= 0 and self.segment_size >= least_bytes:
                self._rotate()

    def relist(self) -> None:
        """Look again at which parts there are, after some were split or dropped."""
        with self._lock:
            self.parts = attempts_in(self.directory)[self.attempt]

    @contextmanager
    def readable(self) -> Iterator[dict[str, int]]:
        """Lend the open file by its path, as long as the body runs; nothing while something is being written."""
        if not self._lock.acquire(blocking=False):
            yield {}
            return
        try:
            yield {self.path: self._descriptor} if self._descriptor >= 0 else {}
        finally:
            self._lock.release()

    def close(self) -> None:
        """Close the file; idempotent."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor = -1

    def _recover(self) -> None:
        with explained("opening a log", self.path):
            found = os.fstat(self._descriptor).st_size
            head = head_of(self._descriptor) if found else None
            if head is not None:
                self._count(head, found)
            if any(part.kind is Kind.HOLE for part in self.parts):
                delete_covered(self.directory, self.attempt)
            if head is None or (head.is_old and not self.tally.records):
                self._begin_again()
            elif head.is_old:
                self._rotate()

    def _count(self, head: Head, found: int) -> None:
        self.tally, self.size = head.before, head.offset
        self._bytes_before = head.before.all_bytes
        for frame in frames(self._descriptor, head.offset):
            self.tally.add(frame.stream, frame.data)
            self.size = frame.end
        if found > self.size:
            os.ftruncate(self._descriptor, self.size)

    def _begin_again(self) -> None:
        os.ftruncate(self._descriptor, 0)
        self.size, self.tally.records = 0, self.parts[-1].first
        self._write(self.tally.header())

    def _rotate(self) -> None:
        path = segment_path(self.directory, self.attempt, self.tally.records)
        put_part(path, self.tally.header())
        descriptor = _open(path)
        os.close(self._descriptor)
        self._descriptor = descriptor
        self.parts = (*self.parts, Part(path, Kind.SEGMENT, self.tally.records))
        self.size, self._bytes_before = HEADER.size, self.tally.all_bytes

    def _write(self, encoded: bytes) -> None:
        try:
            rest = memoryview(encoded)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            raise
        self.size += len(encoded)


def _open(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, OWNER_FILE)
