"""
Unpacks archives that somebody hostile may have made.

Every name is created by us, exclusively, from an open directory and never through a link; the parsers only read. Limits
hold for members, bytes, depth and lengths of names. Everything here blocks; call it from a thread.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from adapters.archive_members import Member, members
from adapters.archive_streams import PIECE_BYTES
from adapters.beneath import NEW_FILE, open_directory
from adapters.files import OWNER_FILE, write_all
from adapters.interruptible import Stop
from adapters.packing import Measure, measure, pack_directory
from runner.errors import OutOfSpace, Refused
from runner.units import format_size

__all__ = ["Limits", "Measure", "measure", "pack_directory", "unpack"]

FILE_MODE = 0o644
PROGRAM_MODE = 0o755


@dataclass(frozen=True)
class Limits:
    """What one archive may unpack to; ``room_bytes`` is what the disk has, which is not the archive's fault."""

    bytes: int = 1 << 40
    members: int = 1_000_000
    room_bytes: int = 1 << 60


def unpack(source: int, target: int, limits: Limits, stop: Stop) -> int:
    """
    Unpack an open archive into an open, empty directory, and return the bytes written.

    Files are 0644, or 0755 where their owner may run them; directories 0755. Of the same name twice, the later file
    counts, as every archiver has it. A failure leaves what was unpacked so far for the caller to delete.

    Raises:
        Refused: it is no archive, or not one that may be unpacked; names the member.
        OutOfSpace: it needs more than the disk has.
        OSError: the disk is full, or does not take a name.
    """
    unpacking = _Unpacking(target, limits, stop)
    try:
        for count, member in enumerate(members(source)):
            stop.check()
            if count >= limits.members:
                raise Refused(f"input holds more than {limits.members} members")
            unpacking.add(member)
    finally:
        unpacking.close()
    return unpacking.written


class _Unpacking:
    """The directory being filled; the one that the last member stood in stays open, since the next often does too."""

    def __init__(self, target: int, limits: Limits, stop: Stop) -> None:
        self.written = 0
        self._target, self._limits, self._stop = target, limits, stop
        self._parent_parts: tuple[str, ...] = ()
        self._parent = os.dup(target)

    def close(self) -> None:
        os.close(self._parent)

    def add(self, member: Member) -> None:
        try:
            self._add(member)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.ELOOP):
                name = "/".join(member.parts)
                raise Refused(f"input holds {name} as a file and as a directory") from None
            raise

    def _add(self, member: Member) -> None:
        if member.is_directory:
            self._enter(member.parts)
            return
        if not member.parts:
            raise Refused("input holds a file without a name")
        self._enter(member.parts[:-1])
        fd = _create(member.parts[-1], self._parent)
        try:
            self._fill(fd, member)
            os.fchmod(fd, PROGRAM_MODE if member.is_executable else FILE_MODE)
        finally:
            os.close(fd)

    def _enter(self, parts: tuple[str, ...]) -> None:
        if parts != self._parent_parts:
            entered = open_directory(self._target, parts, make=True)
            os.close(self._parent)
            self._parent, self._parent_parts = entered, parts

    def _fill(self, fd: int, member: Member) -> None:
        while block := member.read(PIECE_BYTES):
            self._stop.check()
            self.written += len(block)
            self._check_room()
            write_all(fd, block)

    def _check_room(self) -> None:
        if self.written > self._limits.bytes:
            raise Refused(f"input unpacks to more than {format_size(self._limits.bytes)}: unpack less, or in parts")
        if self.written > self._limits.room_bytes:
            room = format_size(self._limits.room_bytes)
            raise OutOfSpace(f"unpacking an input: it needs more than the {room} that the disk has free")


def _create(name: str, at: int) -> int:
    """Create a file; an earlier one of the same name gives way, anything else does not."""
    try:
        return os.open(name, NEW_FILE, OWNER_FILE, dir_fd=at)
    except FileExistsError:
        if not stat.S_ISREG(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
            raise IsADirectoryError(errno.EISDIR, "is a directory", name) from None
    os.unlink(name, dir_fd=at)
    return os.open(name, NEW_FILE, OWNER_FILE, dir_fd=at)
