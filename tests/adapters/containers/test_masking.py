"""Secrets in what a job prints are covered wherever the stream is cut, and no byte moves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from adapters.containers.masking import SHORTEST_BYTES, Mask, masked, pieces_of
from runner.ports import Chunk

TOKEN = b"hunter2hunter3"
bits = st.lists(st.sampled_from([b"hunter", b"2hunter3", b"h", b"2", TOKEN, b"\n", b"aaaa", b"aab", b"x"]), max_size=12)


def covered(values: list[bytes], chunks: list[bytes]) -> bytes:
    mask = Mask(pieces_of(values))
    return b"".join([*(mask.cover(chunk) for chunk in chunks), mask.rest()])


@given(bits, st.lists(st.integers(0, 90), max_size=5))
def test_a_secret_is_covered_wherever_the_stream_is_cut(said: list[bytes], cuts: list[int]) -> None:
    text = b"".join(said)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    chunks = [text[begin:end] for begin, end in pairwise(edges)]
    for values in ([TOKEN], [b"aaaaab", TOKEN]):
        seen = covered(values, chunks)
        assert len(seen) == len(text)
        assert not [value for value in values if value in seen]
        assert all(new in (old, ord("*")) for old, new in zip(text, seen, strict=True))


@given(bits)
def test_what_was_passed_on_so_far_never_ends_within_a_secret(said: list[bytes]) -> None:
    """A runner that is killed there goes on in the middle of one otherwise."""
    mask, passed, text = Mask(pieces_of([TOKEN])), 0, b""
    for chunk in said:
        text += chunk
        passed += len(mask.cover(chunk))
        at = (text + TOKEN).find(TOKEN, max(0, passed - len(TOKEN) + 1))
        assert not (at < passed < at + len(TOKEN)) or covered([TOKEN], [text[:passed]])[at:passed].strip(b"*") == b""


def test_nothing_is_held_back_that_begins_no_secret() -> None:
    assert Mask(pieces_of([TOKEN])).cover(b"a prompt> ") == b"a prompt> "
    assert Mask(pieces_of([])).cover(b"hunter2hunter3") == b"hunter2hunter3"


def test_the_lines_of_a_key_are_covered_each_and_a_long_line_in_pieces() -> None:
    key = b"-----BEGIN KEY-----\nMIIEvQIBADAN\n\n-----END KEY-----\n"
    assert covered([key], [b"second: MIIEvQIBADAN.\n"]) == b"second: ************.\n"
    line = random.Random(1).randbytes(2500).hex().encode()
    assert set(covered([line], [b"<", line[:3000], line[3000:], b">"])) == set(b"<*>")


def test_what_is_too_short_to_be_a_secret_is_left() -> None:
    assert covered([b"x" * (SHORTEST_BYTES - 1)], [b"xxxxxxxxx"]) == b"xxxxxxxxx"


def test_streams_are_covered_each_for_itself() -> None:
    async def said() -> AsyncGenerator[Chunk, None]:
        for stream, data in (("stdout", b"hunter2"), ("stderr", b"hunter3"), ("stdout", b"hunter3!"), ("stderr", b"h")):
            yield Chunk(stream, data)

    async def main() -> dict[str, bytes]:
        seen = {"stdout": b"", "stderr": b""}
        async for chunk in masked(said(), [TOKEN]):
            seen[chunk.stream] += chunk.data
        return seen

    assert asyncio.run(main()) == {"stdout": b"**************!", "stderr": b"hunter3h"}
