"""What a job writes cannot take over the terminal of whoever reads it."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.cli.harmless import COLOUR_MAX_BYTES, Harmless

COLOURS = (b"\x1b[1;31mred\x1b[0m", b"\x1b[", b"\x1b", b"31", b"m", b"9" * 70)
ORDERS = (b"\x1b]0;title\x07", b"\x1b[2J", b"\x1bP", b"\x9b2J", b"\xc2\x9b2J", b"\x07", b"\b")
TEXTS = (b"text\n", b"\r50 %", b"\xe2\x82\xac", b"\xf0\x9f\x98\x80", b"\xff\x00")
PIECES = st.sampled_from((*COLOURS, *ORDERS, *TEXTS))
HOSTILE = st.lists(st.one_of(PIECES, st.binary(max_size=8)), max_size=12).map(b"".join)


def shown(*parts: bytes) -> bytes:
    harmless = Harmless()
    return b"".join([*map(harmless.passed, parts), harmless.rest()])


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        (b"loss 0.5\tlr 1\r\n", b"loss 0.5\tlr 1\r\n"),
        ("Größe €, 中, 😀\n".encode(), "Größe €, 中, 😀\n".encode()),
        (b"\x1b[1;38;5;9mred\x1b[m", b"\x1b[1;38;5;9mred\x1b[m\x1b[0m"),
        (b"\x1b]0;owned\x07", rb"\x1b]0;owned\x07"),
        (b"\x1b[2J\x1b[H", rb"\x1b[2J\x1b[H"),
        (b"\x1b[6n", rb"\x1b[6n"),
        (b"\x1bPq\x1b\\", rb"\x1bPq\x1b" + b"\\"),
        (b"\x9b2J", rb"\x9b2J"),
        (b"\xc2\x9b2J", rb"\x9b2J"),
        (b"pass\b\b\b\bfail\x7f", rb"pass\x08\x08\x08\x08fail\x7f"),
        (b"\x00\xff\xc3", rb"\x00\xff\xc3"),
        (b"\xed\xa0\x80", rb"\xed\xa0\x80"),
        (b"\x1b[" + b"1" * 61 + b"m", rb"\x1b[" + b"1" * 61 + b"m"),
        (b"\x1b[>4m\x1b[?1m", rb"\x1b[>4m\x1b[?1m"),
        (b"\x1b", rb"\x1b"),
    ],
)
def test_text_and_colours_pass_and_nothing_else(written: bytes, seen: bytes) -> None:
    assert seen == shown(written)


@given(HOSTILE, st.lists(st.integers(0, 200), max_size=8))
def test_wherever_it_is_cut_the_same_is_seen(written: bytes, cuts: list[int]) -> None:
    """A sequence may come in two records."""
    places = [0, *sorted(min(cut, len(written)) for cut in cuts), len(written)]
    parts = [written[a:b] for a, b in pairwise(places)]
    assert shown(written) == shown(*parts) == shown(*(bytes([byte]) for byte in written))


@given(HOSTILE)
def test_nothing_that_is_seen_can_do_harm(written: bytes) -> None:
    """Whatever comes: behind colours, text and line ends there is no control character."""
    text = re.sub(r"\x1b\[[0-9;:]*m", "", shown(written).decode())
    assert [] == [c for c in text if c not in "\t\n\r" and (c < " " or "\x7f" <= c < "\xa0")]


@given(HOSTILE)
def test_what_is_held_back_is_little(written: bytes) -> None:
    harmless = Harmless()
    harmless.passed(written)
    held = harmless.rest().removesuffix(b"\x1b[0m")
    assert len(held.replace(rb"\x", b"")) <= 2 * COLOUR_MAX_BYTES
