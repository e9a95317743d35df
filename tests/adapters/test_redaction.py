"""Secrets in what a job prints are covered wherever the stream is cut or taken up again, and no byte moves."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from collections.abc import AsyncGenerator, Iterable
from itertools import pairwise
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.redaction import Mask, Redaction, context_of, masked, redaction_of
from adapters.secret_spellings import SHORTEST_BYTES
from runner.ports import Chunk

TOKEN = b"hunter2/hunter3?"
OVERLAPPING = (b"aaaaaab", b"abcabcabc", b"cabcabx")
PEM = b"-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA0Z3VS5Jcds3xfnX/\nxEAh4lQPbPQ==\n-----END RSA PRIVATE KEY-----"
JWT = b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"
SHAPED = (
    b"ghp_" + b"Ab1" * 12, b"github_pat_11ABCDEFG0abcdefghijkl_mnopqrstuvwxyz", b"glpat-abcdEFGH12345678-_90",
    b"AKIAIOSFODNN7EXAMPLE", b"ASIAIOSFODNN7EXAMPLE", b"xoxb-123456789012-abcdefABCDEF", b"hf_" + b"aBcDe" * 7,
    b"sk-" + b"aB3d" * 12, b"sk-proj-abcdefghij_klmnopqrst-uv", b"sk-ant-api03-abcdefghij-klmnop_qrst",
    b"AIza" + b"Sy_-D" * 7, b"npm_" + b"a1B2" * 9, b"pypi-AgEI" + b"cHlwaS5" * 8, b"sk_live_" + b"a1B2" * 6, JWT,
)  # fmt: skip


def standing(value: bytes, before: bytes, after: bytes) -> bytes:
    """Return the base64 of a text with the value in it."""
    return base64.b64encode(before + value + after)


ALL_SPELLINGS = (
    TOKEN, quote(TOKEN).encode(), quote(TOKEN, safe="").encode(), quote(TOKEN, safe="").lower().encode(),
    *(standing(TOKEN, b"<" * shift, b">>>") for shift in range(4)),
    base64.urlsafe_b64encode(b"?>" + TOKEN),
)  # fmt: skip
FILLING = (
    b"\n", b" ", b"x", b"=", b"hunter", b"2/hunter", b"aaaa", b"aab", b"abc", b"ghp_", b"eyJ", b"sk-", b"://", b"@",
    b":", b"%22", b"\\n", b"-", b".", b"user", b"-----BEGIN ", b"PRIVATE KEY-----", b"\r\n", b"%2F", b"--", b"/",
)  # fmt: skip
said = st.lists(
    st.sampled_from([*ALL_SPELLINGS, *OVERLAPPING, *SHAPED, *FILLING, PEM, b"redis://u:pa%2Fss@h/0"]), max_size=9
)
cuts = st.lists(st.floats(0, 1), max_size=6)
SMALL = 150
"""The most that an occurrence has here, so that the bound is met in short texts."""
REDACTIONS = tuple(Redaction([TOKEN, *OVERLAPPING], longest) for longest in (SMALL, 16 << 10))


def places(text: bytes, fractions: Iterable[float]) -> list[int]:
    return sorted(int(fraction * len(text)) for fraction in fractions)


def fed(mask: Mask, chunks: Iterable[bytes]) -> list[bytes]:
    return [*(mask.cover(chunk) for chunk in chunks), mask.rest()]


@given(said, cuts)
def test_how_a_stream_is_cut_makes_no_difference(parts: list[bytes], fractions: list[float]) -> None:
    text = b"".join(parts)
    edges = [0, *places(text, fractions), len(text)]
    for redaction in REDACTIONS:
        whole = redaction.whole(text)
        assert all(new in (old, ord("*")) for old, new in zip(text, whole, strict=True))
        assert whole.count(b"\n") == text.count(b"\n")
        assert b"".join(fed(Mask(redaction), (text[begin:end] for begin, end in pairwise(edges)))) == whole
        assert b"".join(fed(Mask(redaction), (text[at : at + 1] for at in range(len(text))))) == whole


@given(said, st.floats(0, 1))
def test_a_reader_that_goes_on_where_another_was_killed_sees_the_same(parts: list[bytes], fraction: float) -> None:
    """It has what was given out up to then, and reads somewhat earlier than that."""
    text = b"".join(parts)
    for redaction, longest in zip(REDACTIONS, (SMALL, 16 << 10), strict=True):
        whole = redaction.whole(text)
        for has in (len(Mask(redaction).cover(text[: int(fraction * len(text))])), int(fraction * len(text))):
            drop = context_of({"stdout": has}, longest)["stdout"]
            assert drop == min(has, redaction.context_bytes)
            assert b"".join(fed(Mask(redaction, drop), [text[has - drop :]])) == whole[has:]


@given(said, st.sampled_from([TOKEN, *OVERLAPPING]), said)
def test_a_value_is_covered_whatever_stands_around_it(before: list[bytes], value: bytes, after: list[bytes]) -> None:
    begins = b"".join(before)
    for redaction in REDACTIONS:
        seen = redaction.whole(begins + value + b"".join(after))
        assert seen[len(begins) :][: len(value)] == b"*" * len(value)


@settings(max_examples=30)
@given(st.binary(min_size=7, max_size=60), st.binary(max_size=9), st.binary(max_size=9))
def test_of_a_value_in_base64_only_characters_at_its_edges_are_left(value: bytes, before: bytes, after: bytes) -> None:
    value = b"v" + value.translate(bytes.maketrans(b"\r\n\v\f\x1c\x1d\x1e\x85", b"abcdefgh")) + b"v"
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(before + value + after)
        first, last = -(-8 * len(before) // 6), 8 * len(before + value) // 6
        seen = Redaction([value]).whole(b"<" + text + b">")[1:-1]
        assert seen[first:last] == b"*" * (last - first)


def test_what_was_decided_is_given_out_at_once() -> None:
    mask = Mask(REDACTIONS[1])
    assert mask.cover(b"a prompt> ") == b"a prompt> "
    assert mask.cover(b"50 %|#####") == b"50 %|#####"
    assert mask.cover(b"hunte") == b""
    assert mask.cover(b"r_") == b"hunter_"
    assert mask.cover(b" http://box:80") == b" http"
    assert mask.cover(b"/") == b"://box:80/"
    assert mask.cover(b" " + TOKEN) == b" " + b"*" * len(TOKEN)
    assert mask.cover(b"ghp_" + b"a" * 40) == b""
    assert mask.cover(b"\n") == b"*" * 44 + b"\n"


def test_what_is_held_back_is_given_out_at_the_end() -> None:
    assert fed(Mask(REDACTIONS[1]), [b"a hunter"]) == [b"a ", b"hunter"]


def test_a_token_without_an_end_is_given_out_in_the_end() -> None:
    mask = Mask(REDACTIONS[0])
    given_out = mask.cover(b"ghp_" + b"A" * 400)
    assert given_out == b"*" * SMALL + b"A" * (404 - SMALL)


@pytest.mark.parametrize("token", SHAPED, ids=lambda token: token[:10].decode())
def test_tokens_of_known_services_are_covered(token: bytes) -> None:
    nothing_known = redaction_of(frozenset())
    for text in (
        b"%s",
        b"export TOKEN=%s\n",
        b'{"token": "%s"}',
        b'"a\\n%s"',
        b"%%22%s%%22",
        b"Authorization: Bearer %s\r\n",
        b"(%s)",
    ):
        assert nothing_known.whole(text % token) == text % (b"*" * len(token))


WORDS_OF_HEADS = (
    b"eyJ-" * 16_000 + b".eyJaaaaaaaa",
    b"glpat-abcdefghijklmnopqrst-" * 2400,
    b"eyJ-------a.eyJaaaaaaaa." * 2700,
)


@pytest.mark.parametrize("word", WORDS_OF_HEADS, ids=lambda word: word[:8].decode())
def test_a_word_full_of_beginnings_takes_no_longer_than_others(word: bytes) -> None:
    """A job could hold up the whole box with it: where each beginning is looked at, this takes seconds."""
    mask = Mask(REDACTIONS[1])
    mask.cover(word)
    begun = time.thread_time()
    mask.rest()
    Mask(REDACTIONS[1]).cover(word)
    assert time.thread_time() - begun < 0.2


def test_of_urls_the_password_is_covered() -> None:
    nothing_known = redaction_of(frozenset())
    assert nothing_known.whole(b"amqp://me:secret@h:5672/v, x") == b"amqp://me:******@h:5672/v, x"
    assert nothing_known.whole(b"redis://:p%40ss@h") == b"redis://:******@h"
    assert nothing_known.whole(b"git+https://u:a@b@h/") == b"git+https://u:***@h/"


def test_of_a_private_key_the_lines_between_are_covered() -> None:
    nothing_known = redaction_of(frozenset())
    assert nothing_known.whole(PEM + b"\nDone.\n") == (
        b"-----BEGIN RSA PRIVATE KEY-----\n" + b"*" * 32 + b"\n*************\n-----END RSA PRIVATE KEY-----\nDone.\n"
    )
    assert b"MIIE" not in nothing_known.whole(json.dumps({"key": PEM.decode()}).encode())


ORDINARY = (
    "epoch 3/10: 100%|##########| 500/500 [00:12<00:00, 41.2it/s, loss=0.1234]\r",
    "commit 9fceb02d0ae598e95dc970b74767f19372d61af8 (HEAD -> main, origin/main)",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  model.safetensors",
    "run 5a0c7f31-7a57-4b0e-9df5-1c3a2d0c7e11 of sk-learn-pipeline-with-a-long-name-of-steps",
    "Running on http://127.0.0.1:8080 and http://[::1]:8080/?user=me@example.com",
    "pip install hf_transfer transformers==4.40.0 git+ssh://git@github.com/a/b.git@v1:2",
    "pulled nvcr.io/nvidia/pytorch@sha256:" + "ab12" * 16,
    "-----BEGIN CERTIFICATE-----\nMIIDXTCCAkWgAwIBAgIJAJC1HiIAZAiIMA0GCSqGSIb3DQEBCwUA\n-----END CERTIFICATE-----",
    ">sp|P12345|AKIA protein\nMKTAYIAKIASIAQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPD",
    'File "/usr/lib/python3.11/site-packages/torch/nn/modules/module.py", line 1511, in _wrapped_call_impl',
    "mailto:me@example.com ssh://git@host:22/x.git C:\\Users\\me x://y",
)


@pytest.mark.parametrize("line", ORDINARY, ids=lambda line: line[:12])
def test_ordinary_lines_are_left(line: str) -> None:
    assert REDACTIONS[1].whole(line.encode()) == line.encode()


def test_images_and_numbers_in_base64_and_hex_are_left() -> None:
    chance = random.Random(1)
    for text in (base64.b64encode(chance.randbytes(600_000)), chance.randbytes(400_000).hex().encode()):
        assert REDACTIONS[1].whole(text) == text


def test_the_lines_of_a_key_are_covered_each_also_where_base64_is_wrapped() -> None:
    key = b"-----BEGIN KEY-----\nMIIEvQIBADAN%s\n\nlast line\n-----END KEY-----\n" % (b"qwertyui" * 20)
    redaction = Redaction([key])
    assert redaction.whole(b"second: last line.\n") == b"second: *********.\n"
    wrapped = base64.encodebytes(key)
    assert set(redaction.whole(wrapped)[:-4]) == set(b"*\n")


def test_a_long_line_is_covered_in_pieces_to_its_end() -> None:
    line = random.Random(1).randbytes(1025)
    text = line.hex().encode() + b"end"
    redaction = Redaction([text])
    assert set(b"".join(fed(Mask(redaction), [b"<", text[:1000], text[1000:], b">"]))) == set(b"<*>")
    assert redaction.whole(b"<%s>" % text[256:512]) == b"<%s>" % (b"*" * 256)


def test_json_spells_some_values_in_another_way() -> None:
    value = 'quo"te\\ü\tx'
    for is_ascii in (True, False):
        text = json.dumps({"a": value}, ensure_ascii=is_ascii).encode()
        assert set(Redaction([value.encode()]).whole(text)[7:-2]) == set(b"*")


def test_what_is_too_short_to_be_a_secret_is_left() -> None:
    assert Redaction([b"x" * (SHORTEST_BYTES - 1)]).whole(b"xxxxxxxxx") == b"xxxxxxxxx"


def test_streams_are_covered_each_for_itself() -> None:
    async def said() -> AsyncGenerator[Chunk, None]:
        for stream, data in (
            ("stdout", b"hunter2/"),
            ("stderr", b"hunter3?"),
            ("stdout", b"hunter3?!"),
            ("stderr", b"h"),
        ):
            yield Chunk(stream, data)

    async def main() -> dict[str, bytes]:
        seen = {"stdout": b"", "stderr": b""}
        async for chunk in masked(said(), Redaction([TOKEN]), {"stdout": 3}):
            seen[chunk.stream] += chunk.data
        return seen

    assert asyncio.run(main()) == {"stdout": b"*************!", "stderr": b"hunter3?h"}
