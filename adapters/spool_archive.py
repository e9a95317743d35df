"""
What is left when an attempt's log is complete: the archive, and the mark that it is.

The archive is the job's stdout and stderr in spool order, gzipped without name or time, so that equal logs give equal
archives and unpacking one gives the bytes that the receipt's digest is of.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator

import msgspec

from adapters.files import explained, remove_file, write_all, write_whole
from adapters.spool_file import SpoolFile, Tally, whole_file
from adapters.spool_frames import OUTPUT
from runner.ports import SpoolSeal

GZIP_LEVEL = 6
PIECE_BYTES = 64 << 10
_GZIP = 16 + zlib.MAX_WBITS

_ENCODE = msgspec.json.Encoder().encode
_DECODE = msgspec.json.Decoder(SpoolSeal).decode


class _Output:
    """The job's own bytes on their way out of a spool, counted and hashed as they pass."""

    def __init__(self, spool: str) -> None:
        self._spool = spool
        self.tally = Tally()
        self.digest = hashlib.sha256()

    def pieces(self, *, is_silent: bool) -> Iterator[bytes]:
        """Yield them in pieces of 64 KiB and more: packing and hashing each line by itself takes twice as long."""
        if is_silent:
            return
        held, held_bytes = [], 0
        for frame in whole_file(self._spool):
            if frame.stream not in OUTPUT:
                continue
            self.tally.add(frame.stream, frame.data)
            held.append(frame.data)
            held_bytes += len(frame.data)
            if held_bytes >= PIECE_BYTES:
                yield self._hashed(b"".join(held))
                held, held_bytes = [], 0
        yield self._hashed(b"".join(held))

    def seal(self, archive: str) -> SpoolSeal:
        """Return the account of all that passed."""
        return SpoolSeal(self.tally.lines, self.tally.output_bytes, f"sha256:{self.digest.hexdigest()}", archive)

    def _hashed(self, piece: bytes) -> bytes:
        self.digest.update(piece)
        return piece


def seal_file(spool: str, archive: str, mark: str, *, is_silent: bool = False) -> SpoolSeal:
    """
    Write the archive of a spool, then the mark; each appears whole. Blocking, in one pass over the spool.

    An attempt that wrote nothing gets an empty spool. One that ``is_silent``, where the caller knows that the job wrote
    nothing to stdout and stderr, is not read.

    Raises:
        OutOfSpace: the disk is full; nothing is left behind.
    """
    if not is_silent and not os.path.exists(spool):
        SpoolFile(spool).close()
    output = _Output(spool)
    with explained("writing the archive of a log", archive):
        _put(archive, _gzipped(output.pieces(is_silent=is_silent)))
        write_whole(mark, _ENCODE(output.seal(os.path.basename(archive))), durable=False)
    return output.seal(archive)


def load_seal(mark: str) -> SpoolSeal | None:
    """Read the mark of a sealed attempt; None where it is not sealed."""
    try:
        with open(mark, "rb") as file:
            seal = _DECODE(file.read())
    except FileNotFoundError:
        return None
    return msgspec.structs.replace(seal, archive=os.path.join(os.path.dirname(mark), seal.archive))


def _gzipped(parts: Iterator[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _GZIP)
    for part in parts:
        if packed := packer.compress(part):
            yield packed
    yield packer.flush()


def _put(path: str, parts: Iterator[bytes]) -> None:
    temporary = f"{path}.new"
    try:
        with open(temporary, "wb", buffering=0) as file:
            for part in parts:
                write_all(file.fileno(), part)
        os.rename(temporary, path)
    except BaseException:
        remove_file(temporary)
        raise
