"""
The members of an archive: only regular files and directories with clean names, everything else is refused by name.

``tarfile`` and ``zipfile`` serve as parsers; nothing is ever extracted by them. Links are refused rather than checked:
what a link means depends on what stands around it when it is used, and that is how archives escape.
"""

from __future__ import annotations

import functools
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, TypeVar, cast

from adapters.archive_streams import BoundedReads, Forward, damaged, form_of, open_stream
from adapters.shape import quoted
from runner.errors import Refused

T = TypeVar("T")
DEPTH_MAX = 100
NAME_MAX_BYTES = 255
_PARSER_ERRORS = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, ValueError, OverflowError,
    RecursionError, KeyError, IndexError, NotImplementedError, RuntimeError, OSError,
)  # fmt: skip
"""What the two parsers raise on bytes that nobody honest wrote."""
_TAR_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE)
_TAR_KINDS = {
    tarfile.SYMTYPE: "a link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a FIFO",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
_ZIP_ENCRYPTED = 0x1
_END_BYTES = 1 << 20
_UNCLEAN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and what stands for bytes that are not UTF-8."""


@dataclass(frozen=True)
class Member:
    """One file or directory: its name as written and in parts, and for a file how to read on in it."""

    name: str
    parts: tuple[str, ...]
    is_directory: bool = False
    is_executable: bool = False
    read: Callable[[int], bytes] = lambda _size: b""


def members(fd: int) -> Iterator[Member]:
    """
    Yield the members of an open archive in its order; read each before asking for the next.

    Raises:
        Refused: it is no archive, damaged, or holds what is not unpacked; the text names the member.
    """
    form = form_of(fd)
    with os.fdopen(os.dup(fd), "rb") as file:
        file.seek(0)
        yield from _zip_members(file) if form == "zip" else _tar_members(file, form)


def _tar_members(file: IO[bytes], form: str) -> Iterator[Member]:
    stream = Forward(open_stream(file, form))
    archive = _open_tar(stream, form)
    while (entry := _parsed(archive.next)) is not None:
        _forget(archive)
        yield _tar_member(entry, stream)
    if stream.block.strip(b"\0"):
        raise damaged("what follows its last member is no header")
    stream.drain(_END_BYTES)


def _forget(archive: Any) -> None:
    """Drop the list of all members that the parser keeps: an archive may hold millions."""
    archive.members.clear()


def _open_tar(stream: Forward, form: str) -> tarfile.TarFile:
    try:
        return tarfile.TarFile(fileobj=cast("IO[bytes]", stream), encoding="utf-8", errors="surrogateescape")
    except _PARSER_ERRORS:
        inner = (
            "it is compressed, but holds no tar" if form != "tar" else "it is neither tar, tar.gz, .bz2, .xz nor zip"
        )
        raise Refused(f"input is no archive: {inner}; leave unpack away to get it as it is") from None


def _tar_member(entry: tarfile.TarInfo, stream: Forward) -> Member:
    if entry.isdir():
        return Member(entry.name, _clean(entry.name), is_directory=True)
    if entry.type not in _TAR_FILES or entry.issparse():
        kind = "a sparse file" if entry.issparse() else _TAR_KINDS.get(entry.type, "a special member")
        raise _not_unpacked(kind, entry.name)
    if entry.size < 0 or entry.offset_data != stream.tell():
        raise damaged(f"{_shown(entry.name)} has an impossible size")
    reader = _Exactly(stream.read, entry.size, entry.name)
    return Member(entry.name, _clean(entry.name), is_executable=bool(entry.mode & stat.S_IXUSR), read=reader.read)


def _zip_members(file: IO[bytes]) -> Iterator[Member]:
    archive = _parsed(lambda: zipfile.ZipFile(cast("IO[bytes]", BoundedReads(file))))
    for entry in archive.infolist():
        member = _zip_member(entry)
        if member.is_directory:
            yield member
            continue
        with _parsed(functools.partial(archive.open, entry)) as data:
            yield Member(member.name, member.parts, is_executable=member.is_executable, read=_guarded(data.read))


def _zip_member(entry: zipfile.ZipInfo) -> Member:
    name, mode = entry.orig_filename, entry.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _not_unpacked("a link" if stat.S_ISLNK(mode) else "a special file", name)
    if "\\" in name:
        raise Refused(f"input holds a name with a backslash: {_shown(name)}; pack it with / between the parts")
    if entry.flag_bits & _ZIP_ENCRYPTED:
        raise Refused(f"input is encrypted: {_shown(name)}; pack it without a password")
    if entry.compress_type not in _ZIP_METHODS:
        raise Refused(f"input is compressed in a way that is not read: {_shown(name)}; pack it with deflate")
    is_directory = name.endswith("/")
    if is_directory == stat.S_ISREG(mode) and stat.S_IFMT(mode):
        raise damaged(f"{_shown(name)} is said to be a file and a directory")
    return Member(name, _clean(name), is_directory, bool(mode & stat.S_IXUSR) and not is_directory)


class _Exactly:
    """Reads a file's bytes out of a stream, no more, and no fewer without saying so."""

    def __init__(self, pull: Callable[[int], bytes], size: int, name: str) -> None:
        self._pull, self._left, self._name = pull, size, name

    def read(self, size: int) -> bytes:
        block = self._pull(min(size, self._left))
        self._left -= len(block)
        if not block and self._left:
            raise damaged(f"it ends in the middle of {_shown(self._name)}")
        return block


def _guarded(read: Callable[[int], bytes]) -> Callable[[int], bytes]:
    return lambda size: _parsed(lambda: read(size))


def _parsed(parse: Callable[[], T]) -> T:
    """Let a parser work, and say of whatever it raises that the archive is damaged."""
    try:
        return parse()
    except Refused:
        raise
    except _PARSER_ERRORS as error:
        raise damaged(_why(error)) from None


def _why(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return quoted(text)[1:-1].lower()


def _not_unpacked(kind: str, name: str) -> Refused:
    return Refused(f"input holds {kind}, and only files and directories are unpacked: {_shown(name)}")


def _clean(name: str) -> tuple[str, ...]:
    """
    Return the parts of a member's name; () for the archive's own top.

    Raises:
        Refused: it would leave the workspace, or is not the plain way of writing a name.
    """
    if name.startswith("/") or ".." in name.split("/"):
        raise Refused(f"input leaves the workspace: {_shown(name)}")
    plain = name.removeprefix("./").removesuffix("/")
    parts = tuple(plain.split("/"))
    if plain in ("", "."):
        return ()
    if any(_is_unclean(part) for part in parts):
        raise Refused(f"input holds a name that is not clean: {_shown(name)}")
    if len(parts) > DEPTH_MAX or any(len(part.encode()) > NAME_MAX_BYTES for part in parts):
        raise Refused(f"input holds a name that is too long or too deep: {_shown(name)}")
    return parts


def _is_unclean(part: str) -> bool:
    return part in ("", ".") or _UNCLEAN.search(part) is not None


def _shown(name: str) -> str:
    return quoted(name)[1:-1]
