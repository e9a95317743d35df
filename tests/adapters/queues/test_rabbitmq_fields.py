"""Properties of messages as bytes: what goes in comes out, whatever it is, and what is ours is found among it."""

from __future__ import annotations

import asyncio
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.queues.rabbitmq_envelope import HEADER, Envelope, Message, known_envelope, packed, read_envelope
from adapters.queues.rabbitmq_fields import (
    NAMES,
    Properties,
    decode_properties,
    encode_array,
    encode_properties,
    encode_table,
    long_text,
    short_text,
    without_deaths,
)
from adapters.queues.rabbitmq_names import is_own, later_queue, new_token, token_lease_s
from adapters.queues.rabbitmq_transport import (
    BODY,
    METHOD,
    RETURN,
    Frames,
    Told,
    content_frames,
    frame,
)
from adapters.queues.rabbitmq_transport import (
    HEADER as HEADER_FRAME,
)
from runner.job import Note, PastAttempt

ROOM = 131_000
SHORT = st.binary(max_size=255).map(lambda raw: bytes([len(raw)]) + raw)
SIZED = st.binary(max_size=40).map(lambda raw: struct.pack(">I", len(raw)) + raw)
VALUES = st.one_of(
    st.builds(lambda letter, raw: letter + raw, st.sampled_from([b"S", b"x"]), SIZED),
    st.builds(lambda letter, raw: letter + raw, st.sampled_from([b"t", b"b", b"B"]), st.binary(min_size=1, max_size=1)),
    st.builds(
        lambda letter, raw: letter + raw, st.sampled_from([b"l", b"L", b"d", b"T"]), st.binary(min_size=8, max_size=8)
    ),
    st.builds(lambda letter, raw: letter + raw, st.sampled_from([b"I", b"i", b"f"]), st.binary(min_size=4, max_size=4)),
    st.sampled_from([b"V", b"D\x02\0\0\0\x07", b"s\0\x01", b"u\xff\xff"]),
)
NESTED = VALUES | st.lists(VALUES, max_size=3).map(encode_array)
TABLES = st.dictionaries(st.binary(max_size=12).filter(lambda name: name != HEADER), NESTED, max_size=4)
SIZES = {"delivery_mode": 1, "priority": 1, "timestamp": 8}
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        name: st.binary(min_size=SIZES[name], max_size=SIZES[name]) if name in SIZES else SHORT
        for name in NAMES
        if name != "headers"
    },
)


@given(fields=FIELDS, headers=TABLES)
def test_properties_come_out_as_they_went_in(fields: dict[str, bytes], headers: dict[bytes, bytes]) -> None:
    encoded = encode_properties(Properties(fields, headers))
    found = decode_properties(encoded)
    assert (fields, headers, encoded) == (found.fields, found.headers, encode_properties(found))


@given(fields=FIELDS, headers=TABLES, cut=st.integers(1, 300))
def test_properties_that_are_cut_short_are_malformed_or_shorter(
    fields: dict[str, bytes], headers: dict[bytes, bytes], cut: int
) -> None:
    """Never an error of another kind: it would end the connection."""
    encoded = encode_properties(Properties(fields, headers))
    try:
        decode_properties(encoded[: max(0, len(encoded) - cut)])
    except ValueError:
        return


@given(fields=FIELDS, headers=TABLES, note=st.integers(0, 5))
def test_what_is_ours_stands_beside_what_is_not(
    fields: dict[str, bytes], headers: dict[bytes, bytes], note: int
) -> None:
    envelope = Envelope("s", 1.5, "jöb", "ada", Note(attempts=note))
    found = decode_properties(packed(Properties(fields, headers), envelope, ROOM))
    read = read_envelope(found)
    assert read is not None
    assert (envelope.submission, envelope.note, "jöb") == (read.submission, read.note, read.job_id)
    moved = ("expiration", "user_id", "delivery_mode")
    assert {n: v for n, v in fields.items() if n not in moved} == {
        n: v for n, v in found.fields.items() if n not in moved
    }
    assert {n: v for n, v in headers.items() if n not in {b"CC", b"BCC"}} == {
        n: v for n, v in found.headers.items() if n != HEADER
    }


def test_what_the_broker_would_act_on_again_is_kept_aside() -> None:
    """An expiry would end a claim, a user id be refused, a copy be made once more."""
    properties = Properties(
        {"expiration": short_text("5000"), "user_id": short_text("ada"), "delivery_mode": b"\1"},
        {b"CC": encode_array([long_text("other")])},
    )
    found = decode_properties(packed(properties, Envelope("s"), ROOM))
    assert ({"delivery_mode": b"\2"}, [HEADER]) == (found.fields, list(found.headers))
    envelope = read_envelope(found)
    assert envelope is not None
    assert {"expiration": "5000", "user_id": "ada"}.items() <= envelope.kept.items()
    assert "CC" in envelope.kept


def test_headers_that_do_not_fit_beside_a_note_are_left_out_and_the_note_stays() -> None:
    history = tuple(PastAttempt("box", "failed", float(number)) for number in range(3000))
    raw = packed(Properties({}, {b"big": long_text("x" * ROOM)}), Envelope("s", note=Note(5, history=history)), ROOM)
    assert len(raw) < ROOM
    envelope = read_envelope(decode_properties(raw))
    assert envelope is not None
    assert (5, history[-1]) == (envelope.note.attempts, envelope.note.history[-1])


def test_deaths_in_our_own_queues_are_forgotten_and_others_kept() -> None:
    def death(queue: str) -> bytes:
        return b"F" + encode_table({b"queue": long_text(queue), b"reason": long_text("expired")})

    ours, theirs = death("train.claimed.box.60"), death("inbox")
    headers = {b"x-death": encode_array([ours, theirs]), b"x-first-death-queue": long_text("inbox"), b"a": b"V"}
    assert {**headers, b"x-death": encode_array([theirs])} == without_deaths(headers, is_own)
    first = {b"x-death": encode_array([ours]), b"x-first-death-queue": long_text("train.later.5")}
    assert {} == without_deaths({**first, b"x-first-death-reason": long_text("expired")}, is_own)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"note": 5}', "\udcff"])
def test_a_header_that_is_not_ours_is_no_header(text: str) -> None:
    properties = Properties(
        {"message_id": short_text("m"), "timestamp": (7).to_bytes(8, "big")}, {HEADER: long_text(text)}
    )
    envelope = known_envelope(Message(1, b"", properties), 100.0, "made")
    assert ("m", 7.0, Note()) == (envelope.submission, envelope.enqueued_at, envelope.note)


def test_a_delay_is_never_shorter_than_asked_for_up_to_the_longest() -> None:
    waits = [later_queue("q", after_s) for after_s in (0.2, 5, 5.1, 700, 10**9)]
    assert [
        ("q.later.1", 1),
        ("q.later.5", 5),
        ("q.later.10", 10),
        ("q.later.1800", 1800),
        ("q.later.3600", 3600),
    ] == waits


@pytest.mark.parametrize("name", ["q.claimed.5a0c7f31-7a57.60", "q.claimed.client.2.5", "q.later.600", "q.dead"])
def test_our_own_queues_are_told_from_others(name: str) -> None:
    assert (True, False) == (is_own(name), is_own(name + "er"))


def test_a_token_says_for_which_lease_it_was_made() -> None:
    tokens = (new_token(60.0), new_token(2.5), "60-x", "", "60-" + "g" * 24)
    assert [60.0, 2.5, None, None, None] == [token_lease_s(token) for token in tokens]


def test_messages_that_come_back_are_noted_and_swallowed_and_all_else_passes() -> None:
    async def main() -> None:
        reader, told = asyncio.StreamReader(), Told()
        lost = frame(METHOD, 3, RETURN + b"rest") + content_frames(3, b"\0\0", b"x" * 50, 30)
        empty = frame(METHOD, 3, RETURN + b"rest") + content_frames(3, b"\0\0", b"", 30)
        passed = frame(METHOD, 3, b"\0\x3c\0\x47") + frame(BODY, 4, b"other")
        reader.feed_data(lost + empty + passed)
        reader.feed_eof()
        frames = Frames(reader, told)
        seen = b"".join([await frames.readexactly(1) for _ in range(len(passed))])
        assert (passed, {3}, True) == (seen, told.returned, frames.at_eof())

    asyncio.run(main())


def test_properties_pass_the_client_library_as_they_are() -> None:
    async def main() -> None:
        reader = asyncio.StreamReader()
        properties = encode_properties(Properties({"message_id": b"\x01\xff"}, {b"\xff": b"d12345678"}))
        reader.feed_data(content_frames(1, properties, b"", 4096))
        head = await Frames(reader, Told()).readexactly(7)
        kind, channel, size = struct.unpack(">BHI", head)
        assert (HEADER_FRAME, 1) == (kind, channel)
        assert size > len(properties)

    asyncio.run(main())


@pytest.mark.parametrize(
    "text", ['{"more":' + "[" * 100_000, '{"note":{"attempts":1e999}}', "\x00", '{"submission":7}']
)
def test_a_header_of_ours_that_somebody_forged_is_none(text: str) -> None:
    """One that raised would be delivered again for ever, and hold up all behind it."""
    forged = decode_properties(encode_properties(Properties(headers={HEADER: long_text(text)})))
    assert read_envelope(forged) is None
