"""
The bytes inside compressed archives, read forwards only and in bounded pieces.

The standard parsers believe what a header says about its own length and read that much into memory; the streams here
refuse such reads, and steps backwards, which would decompress everything again.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import zlib
from typing import IO, Protocol

from runner.errors import Refused

PIECE_BYTES = 1 << 20
"""The longest read; no honest header of a member is longer."""
ZIP_DIRECTORY_MAX_BYTES = 32 << 20
"""About 300,000 members, which take some 200 MB while they are listed."""
_BLOCK_BYTES = 1 << 16
XZ_MEMORY_MAX_BYTES = 256 << 20
_MAGIC = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\0": "xz", b"PK\x03\x04": "zip", b"PK\x05\x06": "zip"}
_STRANGERS = {b"\x28\xb5\x2f\xfd": "zstd", b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!": "rar", b"\x04\x22\x4d\x18": "lz4"}


class Readable(Protocol):
    """What bytes are read from; an empty result is the end."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, fewer only at the end."""
        ...


def damaged(why: str) -> Refused:
    """Return what is raised for bytes that no honest packer wrote."""
    return Refused(f"input is a damaged archive: {why}; pack or send it again")


def form_of(fd: int) -> str:
    """
    Tell ``gz``, ``bz2``, ``xz``, ``zip`` or ``tar`` by the first bytes of a file; anything unknown may be a tar.

    Raises:
        Refused: it is empty, or an archive of a kind that is not unpacked.
    """
    begin = os.pread(fd, 8, 0)
    if not begin:
        raise Refused("input is no archive but an empty file")
    for magic, stranger in _STRANGERS.items():
        if begin.startswith(magic):
            raise Refused(f"input is a {stranger} archive, which is not unpacked: use tar.gz, tar.bz2, tar.xz or zip")
    return next((form for magic, form in _MAGIC.items() if begin.startswith(magic)), "tar")


def open_stream(file: IO[bytes], form: str) -> Readable:
    """Return the decompressed bytes of an open file."""
    match form:
        case "gz":
            return gzip.GzipFile(fileobj=file, mode="rb")
        case "bz2":
            return bz2.BZ2File(file)
        case "xz":
            return XzStream(file)
        case _:
            return file


class XzStream:
    """Decompresses xz with a limit on the memory that the archive may ask for."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._inner = _new_xz()
        # Bytes behind the end of one stream: the beginning of the next, as parallel compressors write them.
        self._ahead = b""

    def read(self, size: int, /) -> bytes:
        out = bytearray()
        while len(out) < size:
            if self._inner.eof and not self._begin_next():
                break
            out += self._inner.decompress(self._compressed(), size - len(out))
        return bytes(out)

    def _compressed(self) -> bytes:
        if not self._inner.needs_input:
            return b""
        block, self._ahead = self._ahead or self._file.read(_BLOCK_BYTES), b""
        if not block:
            raise EOFError
        return block

    def _begin_next(self) -> bool:
        self._ahead = (self._inner.unused_data or self._file.read(_BLOCK_BYTES)).lstrip(b"\0")
        if self._ahead:
            self._inner = _new_xz()
        return bool(self._ahead)


def _new_xz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_MAX_BYTES)


class Forward(io.RawIOBase):
    """What the tar parser reads from: forwards, in pieces; one byte back, which it likes to look at again."""

    def __init__(self, stream: Readable) -> None:
        super().__init__()
        self._stream = stream
        self._position = 0
        # The byte before the position, and whether it is to be given out again.
        self._last = b""
        self._again = False
        # The block that the parser saw last tells a proper end (zeros) from a header that is no header.
        self.block = b""

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= PIECE_BYTES:
            raise damaged(f"a header claims {size} bytes for itself")
        again = self._last if self._again and size else b""
        data = again + self._pull(size - len(again))
        self._again = self._again and not again
        self._position += len(data)
        self._last = data[-1:] or self._last
        self.block = data
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if whence != 0 or offset < self._position - (0 if self._again else 1):
            raise damaged("its members overlap")
        if offset == self._position - 1:
            self._position, self._again = offset, True
        while self._position < offset:
            if not self.read(min(PIECE_BYTES, offset - self._position)):
                raise damaged("it ends in the middle of a member")
        return self._position

    def drain(self, limit_bytes: int) -> None:
        """Read on behind the archive's end, so that a checksum there is looked at."""
        while limit_bytes > 0 and (data := self.read(min(PIECE_BYTES, limit_bytes))):
            limit_bytes -= len(data)

    def _pull(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            raise damaged(_told(error)) from None


def _told(error: Exception) -> str:
    if isinstance(error, EOFError):
        return "it breaks off"
    if isinstance(error, lzma.LZMAError) and "emory" in str(error):
        return "it asks for more than 256 MiB of memory"
    return "its compressed bytes make no sense"


class BoundedReads(io.RawIOBase):
    """What the zip parser reads from: any place, but never more at once than a directory may hold."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._file.seek(offset, whence)

    def read(self, size: int = -1, /) -> bytes:
        if size > ZIP_DIRECTORY_MAX_BYTES:
            raise Refused("input holds more members than a zip is unpacked with: use tar.gz")
        return self._file.read(size if size >= 0 else ZIP_DIRECTORY_MAX_BYTES)
