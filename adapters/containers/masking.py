"""
Stars over the secrets in what a job prints, byte for byte, so that every position in its output stays what it was.

A courtesy against accidents: a job that means to can print its secrets in another spelling. Pure.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

from runner.ports import Chunk

SHORTEST_BYTES = 6
"""Of a secret that is covered; shorter ones would put stars over half of a log."""
_PIECE_BYTES = 1024


async def masked(chunks: AsyncGenerator[Chunk, None], values: Iterable[bytes]) -> AsyncGenerator[Chunk, None]:
    """Yield the chunks of all streams with these values covered; closes ``chunks``."""
    pieces = pieces_of(values)
    masks: dict[str, Mask] = {}
    async with aclosing(chunks):
        async for chunk in chunks:
            data = masks.setdefault(chunk.stream, Mask(pieces)).cover(chunk.data) if pieces else chunk.data
            if data:
                yield Chunk(chunk.stream, data)
    for stream, mask in masks.items():
        if rest := mask.rest():
            yield Chunk(stream, rest)


def pieces_of(values: Iterable[bytes]) -> tuple[bytes, ...]:
    """Cut values into what is looked for, longest first: their lines, since those of a key may be printed apart."""
    lines = {line for value in values for line in value.splitlines() if len(line) >= SHORTEST_BYTES}
    cut = {line[at : at + _PIECE_BYTES] for line in lines for at in range(0, len(line), _PIECE_BYTES)}
    return tuple(sorted((piece for piece in cut if len(piece) >= SHORTEST_BYTES), key=lambda it: (-len(it), it)))


class Mask:
    """One stream; holds back its last bytes while a secret may begin in them."""

    def __init__(self, pieces: tuple[bytes, ...]) -> None:
        self._pieces = pieces
        self._held = b""

    def cover(self, data: bytes) -> bytes:
        """Return what may go on of this and of what was held back."""
        data = self._held + data
        for piece in self._pieces:
            data = data.replace(piece, b"*" * len(piece))
        begins = min((_begins(piece, data) for piece in self._pieces), default=len(data))
        self._held = data[begins:]
        return data[:begins]

    def rest(self) -> bytes:
        """Return what is held back at the end of the stream."""
        held, self._held = self._held, b""
        return held


def _begins(piece: bytes, data: bytes) -> int:
    """Return where at the end of the data a piece may have begun, the length of the data where none has."""
    at = data.find(piece[:1], max(0, len(data) - len(piece) + 1))
    while at >= 0:
        if piece.startswith(data[at:]):
            return at
        at = data.find(piece[:1], at + 1)
    return len(data)
