"""Names beside a queue, and how a message stands in SQS; without a service."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.queues.sqs_message import ATTRIBUTE, Envelope, packed, read_message
from adapters.queues.sqs_places import NAME_MAX, claim_name, claim_prefix, dead_name
from runner.errors import BadInput
from runner.job import MESSAGE_MAX_BYTES, Note

BOX = "5a0c7f31-7a57-4b0e-9df5-1c3a2d0c7e11"
LIMIT = 1_048_576

NAMES = st.text("abcXYZ019-_", min_size=1, max_size=75)


@given(NAMES, NAMES, st.booleans())
def test_names_beside_a_queue_fit_and_are_its_own(first: str, second: str, fifo: bool) -> None:  # noqa: FBT001
    names = [name + (".fifo" if fifo else "") for name in (first, second)]
    beside = [{dead_name(name), claim_name(name, BOX), claim_name(name, "no uuid")} for name in names]
    assert all(len(name) <= NAME_MAX for found in beside for name in found)
    assert (first == second) == bool(beside[0] & beside[1])
    assert all(name.endswith(".fifo") == fifo for name in map(dead_name, names))


def test_a_claim_queue_is_told_from_those_of_a_queue_with_a_longer_name() -> None:
    longer = claim_name("train-claimed-a", BOX)
    assert claim_prefix("train") != longer[:-12]
    assert claim_prefix("train-claimed-a") == longer[:-12]


def sent(body: bytes, envelope: Envelope | None = None, limit: int = LIMIT) -> dict[str, object]:
    return packed(body, envelope or Envelope(submission="s"), {}, limit)


def received(message: dict[str, object]) -> bytes:
    raw = {"MessageId": "m", "ReceiptHandle": "h", "Body": message["MessageBody"]}
    return read_message({**raw, "MessageAttributes": message["MessageAttributes"]}).body


@given(st.binary(max_size=2000) | st.text(max_size=2000).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_every_body_comes_as_it_was(body: bytes) -> None:
    assert body == received(sent(body))


@given(st.text(max_size=100), st.text(max_size=100))
def test_an_attribute_is_plain_text_whatever_stands_in_it(reason: str, user: str) -> None:
    try:
        (reason + user).encode()
    except UnicodeEncodeError:
        return
    envelope = Envelope(submission="s", reason=reason, user=user, note=Note(last_reason=reason))
    attributes = sent(b"x", envelope)["MessageAttributes"]
    assert isinstance(attributes, dict)
    assert attributes[ATTRIBUTE]["StringValue"].isascii()
    raw = {"MessageId": "m", "ReceiptHandle": "h", "Body": "x", "MessageAttributes": attributes}
    assert envelope == read_message(raw).envelope


def test_a_bomb_is_cut_off() -> None:
    """Whoever can send may send a small message that is huge once it is decoded."""
    assert MESSAGE_MAX_BYTES + 1 == len(received(sent(b"x" * (50 * MESSAGE_MAX_BYTES))))


def test_what_does_not_fit_is_refused_with_the_limit() -> None:
    with pytest.raises(BadInput, match="takes 1024"):
        sent(random.Random(1).randbytes(1000), limit=1024)


@pytest.mark.parametrize("value", ["", "{", "[]", '{"submission": 5}', '{"note": {"attempts": "many"}}'])
def test_an_attribute_of_somebody_elses_is_no_reason_to_fail(value: str) -> None:
    attributes = {ATTRIBUTE: {"DataType": "String", "StringValue": value}}
    raw = {"MessageId": "m", "ReceiptHandle": "h", "Body": "x", "MessageAttributes": attributes}
    assert ("m", b"x", Note()) == ((it := read_message(raw)).submission, it.body, it.envelope.note)


@pytest.mark.parametrize("coding", ["base64", "zlib", "unheard of"])
def test_a_body_that_is_not_coded_as_it_says_stays_as_it_stands(coding: str) -> None:
    told = {ATTRIBUTE: {"DataType": "String", "StringValue": f'{{"coding": "{coding}"}}'}}
    for body in ("x", f"{coding}:???", f"{coding}:aGVsbG8"):
        raw = {"MessageId": "m", "ReceiptHandle": "h", "Body": body, "MessageAttributes": told}
        assert body.encode() == read_message(raw).body


@pytest.mark.parametrize(
    "text", ['{"more":' + "[" * 100_000, '{"note":{"attempts":1e999}}', "\x00", '{"submission":7}']
)
def test_an_attribute_of_ours_that_somebody_forged_is_none(text: str) -> None:
    """One that raised would be received again for ever."""
    attributes = {ATTRIBUTE: {"DataType": "String", "StringValue": text}}
    message = {"MessageId": "m", "ReceiptHandle": "h", "Body": "{}", "MessageAttributes": attributes, "Attributes": {}}
    assert Note() == read_message(message).envelope.note
