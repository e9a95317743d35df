"""Archives of logs as lines, as far as they say."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING

from runner.errors import Refused
from runner.ports import LogLine, Position

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE_BYTES = 64 << 10


def read_archive(path: str, attempt: int, position: Position) -> Iterator[LogLine]:
    """Yield what an archive holds; nothing from the midst of it, since it does not say where records begin."""
    try:
        with gzip.open(path) as packed:
            pieces = iter(lambda: packed.read(PIECE_BYTES), b"") if position <= Position(attempt) else ()
            for sequence, data in enumerate(pieces):
                yield LogLine(attempt, sequence, 0, "stdout", data)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Refused(f"{path}: the archive is damaged: {error}") from error
