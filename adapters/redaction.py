"""
Stars over secrets in what a job prints, byte for byte, so that every position in its output stays what it was.

What is covered: values that the box knows, in several spellings, and what looks like a token of a well-known service.
A byte is covered where any occurrence has it, and whether it is one depends on at most ``LONGEST_BYTES`` on either
side: so it makes no difference how a stream is cut, nor from where on it is read, if one begins so much earlier.

A courtesy against accidents: a job that means to can print its secrets in another spelling. Pure.
"""

from __future__ import annotations

import functools
from bisect import bisect_right
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import aclosing
from typing import Protocol

import msgspec

from adapters.secret_spellings import spellings
from adapters.token_shapes import BEFORE_BYTES, BEGUN, SHOWN_BYTES, WHOLE, counts, next_after, secret_part
from runner.ports import Chunk, Gap

LONGEST_BYTES = 16 << 10
"""Of an occurrence, and so of what is held back; the longest private key in use has 13 KB."""
_MEMORY_BYTES = 64 << 20
_BYTES_A_STATE = 1024
"""With less RE2 falls back to a search that is a hundred times as slow."""
_HEAD_BYTES = 4
_KEPT = 4
_TO_STARS = bytes(byte if byte in b"\r\n" else ord("*") for byte in range(256))


class _Found(Protocol):
    def span(self) -> tuple[int, int]: ...


class _Pattern(Protocol):
    def search(self, text: bytes, at: int, end: int = ..., /) -> _Found | None: ...
    def match(self, text: bytes, at: int, end: int, /) -> _Found | None: ...


class Redaction:
    """
    What is covered in the logs of one job; compiled, and never changes. ``longest`` is for tests alone.

    Made of many values it blocks for a while: in a thread, and ``redaction_of`` keeps the last ones.
    """

    def __init__(self, values: Iterable[bytes], longest: int = LONGEST_BYTES) -> None:
        """Compile what these values look like."""
        self._texts = spellings(values)
        self._sorted = sorted(self._texts)
        self._heads = frozenset(text[:_HEAD_BYTES] for text in self._texts)
        self._longest_text = max(map(len, self._texts), default=0)
        self._longest = longest
        self._whole, self._begun, self._known = self._compiled()

    def _compiled(self) -> tuple[_Pattern, _Pattern, _Pattern]:
        import re2

        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1
        options.longest_match = options.never_capture = True
        options.log_errors = False
        options.max_mem = _MEMORY_BYTES + _BYTES_A_STATE * sum(map(len, self._sorted))
        texts = [re2.escape(text) for text in self._sorted]
        patterns = (b"|".join([WHOLE, *texts]), BEGUN, b"|".join(texts) or rb"\z.")
        whole, begun, known = (re2.compile(pattern, options) for pattern in patterns)
        return whole, begun, known

    @property
    def context_bytes(self) -> int:
        """How much earlier one begins to read, to know what is covered from a place on."""
        return self._longest + BEFORE_BYTES

    def whole(self, text: bytes) -> bytes:
        """Cover a text that is all there is."""
        mask = Mask(self)
        return mask.cover(text) + mask.rest()

    def begins(self, data: bytes, at: int) -> int:
        """Return where from ``at`` on a secret may have begun that goes on, the length of the data where none has."""
        # Also just before, where what tells that a token stands alone may be.
        found = self._begun.search(data, max(0, max(at, len(data) - self._longest + 1) - BEFORE_BYTES))
        begins = max(at, found.span()[0]) if found else len(data)
        at = max(at, data.rfind(b"\n", at) + 1, len(data) - self._longest_text + 1)
        return next((it for it in range(at, begins) if self._may_begin(data, it)), begins)

    def _may_begin(self, data: bytes, at: int) -> bool:
        if len(data) - at >= _HEAD_BYTES and data[at : at + _HEAD_BYTES] not in self._heads:
            return False
        text = data[at:]
        after = bisect_right(self._sorted, text)
        return after < len(self._sorted) and self._sorted[after].startswith(text)

    def cover(self, data: bytes, covered: bytearray, at: int, end: int) -> None:
        """Put stars over every occurrence in the data that begins between ``at`` and ``end``; they may overlap."""
        while found := self._whole.search(data, at):
            begin, last = found.span()
            if begin >= end:
                return
            if last - begin > self._longest:
                cut = self._whole.match(data, begin, begin + self._longest)
                last = cut.span()[1] if cut else begin
            token = data[begin:last]
            if token in self._texts:
                _star(covered, begin, last)
                at = begin + 1
                continue
            if token and counts(data, begin):
                secret = secret_part(token)
                _star(covered, begin + secret[0], begin + secret[1])
            at = next_after(data, begin)
            self._cover_texts(data, covered, begin, min(at, end))

    def _cover_texts(self, data: bytes, covered: bytearray, at: int, end: int) -> None:
        """Do so with known values alone, among which no shape is looked for: a word full of heads costs no more."""
        limit = min(len(data), end + self._longest_text)
        while (found := self._known.search(data, at, limit)) and (begin := found.span()[0]) < end:
            _star(covered, *found.span())
            at = begin + 1


def _star(covered: bytearray, first: int, last: int) -> None:
    covered[first:last] = covered[first:last].translate(_TO_STARS)


class Mask:
    """
    One stream; holds back its last bytes while a secret may go on in them.

    ``drop`` bytes at the beginning are looked at and not returned: the reader has them.
    """

    def __init__(self, redaction: Redaction, drop: int = 0) -> None:
        self._redaction = redaction
        self._drop = drop
        # What stands before what is held back, which tells whether a word begins there.
        self._before = b""
        # What is held back, as it came, and with what is covered of it already.
        self._held, self._covered = b"", b""

    def cover(self, data: bytes) -> bytes:
        """Return what may go on of this and of what was held back."""
        return self._advance(data, is_end=False)

    def rest(self) -> bytes:
        """Return what is held back at the end of the stream."""
        return self._advance(b"", is_end=True)

    def _advance(self, new: bytes, *, is_end: bool) -> bytes:
        begin = len(self._before)
        data = self._before + self._held + new
        end = len(data) if is_end else self._redaction.begins(data, begin)
        covered = bytearray(self._before + self._covered + new)
        self._redaction.cover(data, covered, max(0, begin - SHOWN_BYTES), end)
        self._before = data[max(0, end - BEFORE_BYTES) : end]
        self._held, self._covered = data[end:], bytes(covered[end:])
        given = covered[begin:end]
        drop = min(self._drop, len(given))
        self._drop -= drop
        return bytes(given[drop:])


@functools.lru_cache(maxsize=_KEPT)
def redaction_of(values: frozenset[bytes]) -> Redaction:
    """Return the one for these values, made when it is asked for first; blocks then."""
    return Redaction(values)


def context_of(skip: Mapping[str, int], longest: int = LONGEST_BYTES) -> dict[str, int]:
    """Return how many bytes before those that a reader has one begins with, by stream."""
    return {stream: min(count, longest + BEFORE_BYTES) for stream, count in skip.items()}


async def masked(
    chunks: AsyncGenerator[Chunk, None], redaction: Redaction, context: Mapping[str, int]
) -> AsyncGenerator[Chunk, None]:
    """
    Yield the chunks of all streams with what is secret covered; closes ``chunks``.

    ``context`` bytes at the beginning of each stream are looked at and not yielded; it may be filled in until that
    begins. A gap passes as it is, and what
    follows it has nothing to do with what came before.
    """
    masks: dict[str, Mask] = {}
    async with aclosing(chunks):
        async for chunk in chunks:
            if chunk.stream == "gap":
                ended = _of_gap(chunk, {*context, *masks})
                for piece in _rests({stream: masks.pop(stream) for stream in ended & masks.keys()}):
                    yield piece
                context = {stream: count for stream, count in context.items() if stream not in ended}
                yield chunk
                continue
            if chunk.stream not in masks:
                masks[chunk.stream] = Mask(redaction, context.get(chunk.stream, 0))
            if data := masks[chunk.stream].cover(chunk.data):
                yield Chunk(chunk.stream, data)
    for piece in _rests(masks):
        yield piece


def _of_gap(gap: Chunk, streams: set[str]) -> frozenset[str]:
    stream = msgspec.json.decode(gap.data, type=Gap).stream
    return frozenset((stream,) if stream else streams)


def _rests(masks: Mapping[str, Mask]) -> Iterator[Chunk]:
    for stream, mask in masks.items():
        if rest := mask.rest():
            yield Chunk(stream, rest)
