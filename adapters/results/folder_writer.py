"""
The files that this box writes of one job: appended to, never twice the same, cut back to whole records; blocking.

The first call of a life reads what an earlier one left, so nothing that stands is added again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import msgspec

from adapters.files import OWNER_FILE, write_all
from adapters.results.folder_jobs import file_name, read_file
from adapters.results.folder_lines import LineReader, encode
from runner.ports import LogLine
from runner.receipt import Event


class JobWriter:
    """Writes one job's events and log records for one box."""

    def __init__(self, directory: str, box: str) -> None:
        self._directory = directory
        self._box = box
        # What the events file holds, line by line, once it was read, and its size up to the last whole line.
        self._told: set[bytes] | None = None
        self._told_bytes = 0
        # By attempt: the sequence wanted next, and the size of the file up to its last whole record.
        self._wanted: dict[int, tuple[int, int]] = {}

    def add_lines(self, lines: Sequence[LogLine]) -> None:
        """Append records; those before the last one of their attempt stand already."""
        for attempt in dict.fromkeys(line.attempt for line in lines):
            path = os.path.join(self._directory, file_name("lines", attempt, self._box))
            if attempt not in self._wanted:
                self._wanted[attempt] = _standing(path, attempt)
            wanted, size = self._wanted[attempt]
            new = _ascending((line for line in lines if line.attempt == attempt), wanted)
            if new:
                size = _append(path, size, encode(new))
                self._wanted[attempt] = (new[-1].sequence + 1, size)

    def add_events(self, events: Sequence[Event]) -> None:
        """Append events; one that stands already, equal in all, is not told twice."""
        path = os.path.join(self._directory, f"events.{self._box}")
        if self._told is None:
            whole = read_file(path).rpartition(b"\n")[0]
            self._told, self._told_bytes = set(whole.split(b"\n")), len(whole) + bool(whole)
        new = [line for line in dict.fromkeys(map(msgspec.json.encode, events)) if line not in self._told]
        if new:
            self._told_bytes = _append(path, self._told_bytes, b"".join(line + b"\n" for line in new))
            self._told.update(new)


def _standing(path: str, attempt: int) -> tuple[int, int]:
    """Return the sequence that a file of records wants next, and where its last whole one ends."""
    reader, wanted = LineReader(path, attempt), 0
    try:
        while lines := reader.read():
            wanted = lines[-1].sequence + 1
    except FileNotFoundError:
        return 0, 0
    return wanted, reader.offset


def _ascending(lines: Iterable[LogLine], wanted: int) -> list[LogLine]:
    new: list[LogLine] = []
    for line in lines:
        if line.sequence >= wanted:
            new.append(line)
            wanted = line.sequence + 1
    return new


def _append(path: str, size: int, data: bytes) -> int:
    """Write ``data`` at ``size``, over what a kill or a full disk left after it; return the new size."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, OWNER_FILE)
    try:
        if os.fstat(fd).st_size > size:
            os.ftruncate(fd, size)
        os.lseek(fd, size, os.SEEK_SET)
        write_all(fd, data)
    finally:
        os.close(fd)
    return size + len(data)
