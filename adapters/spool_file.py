"""
One attempt's spool, open for appending, and the tally of what stands in it.

Blocking: a write to the page cache takes microseconds; opening reads the file once.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

from adapters.files import explained, make_directory
from adapters.spool_frames import MAGIC, OUTPUT, STREAMS, Frame, encode, frames
from runner.errors import RunnerError


class Tally:
    """What a spool holds: bytes by stream, and the lines of stdout and of stderr, in whatever order they came."""

    def __init__(self) -> None:
        self.records = 0
        self.bytes = dict.fromkeys(STREAMS, 0)
        self._newlines = 0
        # Whose last line has no newline yet.
        self._open_lines: set[str] = set()

    @property
    def lines(self) -> int:
        """Lines of stdout and stderr; the last one of each without newline counts."""
        return self._newlines + len(self._open_lines)

    @property
    def output_bytes(self) -> int:
        """Bytes of stdout and stderr."""
        return sum(self.bytes[stream] for stream in OUTPUT)

    def add(self, stream: str, data: bytes) -> None:
        """Count one record."""
        self.records += 1
        self.bytes[stream] += len(data)
        if stream in OUTPUT:
            self._newlines += data.count(b"\n")
            self._open_lines.discard(stream)
            if not data.endswith(b"\n"):
                self._open_lines.add(stream)


class SpoolFile:
    """
    The one writer of an attempt. Opening makes the file where there is none and cuts off a torn end.

    Raises:
        OutOfSpace: the disk is full.
        Unavailable: the file cannot be opened.
        ConfigurationError: another version wrote it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.tally = Tally()
        self.size = 0
        # A cancelled append may still be writing in a thread when the next one comes.
        self._lock = threading.Lock()
        with explained("opening a log", path):
            make_directory(os.path.dirname(path))
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._recover()
        except BaseException:
            os.close(self._descriptor)
            raise

    def append(self, at_ns: int, stream: str, data: bytes) -> None:
        """
        Write some bytes, all of them or none.

        Raises:
            OutOfSpace: the disk is full; nothing was written.
            RunnerError: the file was closed, or there is no such stream.
        """
        encoded = encode(at_ns, stream, data)
        with self._lock, explained("adding to a log", self.path):
            if self._descriptor < 0:
                raise RunnerError(f"cannot append to the log {self.path}: it was closed")
            self._write(encoded)
            self.tally.add(stream, data)

    @property
    def descriptor(self) -> int:
        """The open file, for whoever reads it at once; it may be closed at any later time."""
        return self._descriptor

    def close(self) -> None:
        """Close the file; idempotent."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor = -1

    def _recover(self) -> None:
        with explained("opening a log", self.path):
            found = os.fstat(self._descriptor).st_size
            self.size = min(found, len(MAGIC))
            for frame in frames(self._descriptor, 0, found) if found else ():
                self.tally.add(frame.stream, frame.data)
                self.size = frame.end
            if found > self.size:
                os.ftruncate(self._descriptor, self.size)
            if self.size < len(MAGIC):
                self._write(MAGIC[self.size :])

    def _write(self, encoded: bytes) -> None:
        try:
            rest = memoryview(encoded)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            raise
        self.size += len(encoded)


def tally_of(path: str) -> Tally:
    """Count what stands in a spool that is not open here; nothing where there is no such file."""
    tally = Tally()
    for frame in whole_file(path):
        tally.add(frame.stream, frame.data)
    return tally


def whole_file(path: str) -> Iterator[Frame]:
    """Read all whole frames of a file; none where there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        yield from frames(descriptor, 0, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)
