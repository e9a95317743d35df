"""The native dialect against its golden files: what people write, and the exact sentence where it is wrong."""

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.wire.native import NativeDialect, decode, encode_job
from runner.job import MESSAGE_MAX_BYTES, Input, Job, Output, Resources
from runner.ports import LogLine
from runner.receipt import Event
from runner.units import Duration, Size

GOLDEN = Path(__file__).parent / "golden"
DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
EVERY_FIELD = Job(
    id="digits-1",
    name="digits",
    user="ada",
    command=("python", "train.py"),
    image="python:3.12-slim",
    timeout=Duration(3600),
    expires=Duration(172800),
    silent_for=Duration(1800),
    stop_grace=Duration(90),
    retries=1,
    priority=-3,
    env={"EPOCHS": "3", "_X": "π\n"},
    resources=Resources(gpus=1, cpus=2.5, memory=Size(4 << 30), disk=Size(10**10), shm=Size(1 << 30)),
    inputs=(
        Input(path="data", url="folder:///data/set.tar.gz", unpack=True, sha256=DIGEST),
        Input(path=".", url=f"upload:sha256/{DIGEST}", unpack=True, mutable=True),
        Input(path="conf/job.toml", text="a = 1\n"),
    ),
    outputs=(
        Output(path="model", url="folder:///results/", pack="tar.gz", when="success"),
        Output(path="metrics.json", url="folder:///results", key="{id}/metrics.json"),
    ),
)


class Refused(msgspec.Struct, frozen=True):
    """One bad message: ``body`` is its text, or (before, character, times, behind) where it is long; or ``hex``."""

    case: str
    problem: str
    id: str
    body: str | tuple[str, str, int, str] = ""
    hex: str = ""

    def bytes(self) -> bytes:
        match self.body:
            case str():
                return bytes.fromhex(self.hex) or self.body.encode()
            case before, character, times, behind:
                return (before + character * times + behind).encode()


REFUSED = msgspec.json.decode((GOLDEN / "refused.json").read_bytes(), type=tuple[Refused, ...])


@pytest.mark.parametrize("message", REFUSED, ids=lambda message: message.case)
def test_a_bad_message_is_refused_in_one_exact_sentence(message: Refused) -> None:
    decoded = decode(message.bytes())
    assert (message.problem, Job(id=message.id)) == (decoded.problem, decoded.job)


def test_every_sentence_stands_on_one_line() -> None:
    assert [] == [row.case for row in REFUSED if not row.problem or not row.problem.isprintable()]


@pytest.mark.parametrize("name", ["every-field.toml", "every-field.json"])
def test_toml_and_json_say_the_same_job(name: str) -> None:
    assert EVERY_FIELD == decode((GOLDEN / name).read_bytes()).job


def test_a_byte_order_mark_is_no_part_of_the_message() -> None:
    assert ("a", "") == (
        decode(b'\xef\xbb\xbf{"id": "a", "command": ["x"]}').job.id,
        decode(b"\xef\xbb\xbfimage = 'x'").problem,
    )


def test_a_message_over_1_mib_is_refused_with_the_id_that_its_beginning_shows() -> None:
    """The queue cuts a body one byte behind the limit, so the end of a long one is not there to be read."""
    body = b'{"env": {"id": "inner"}, "id": "abc", "name": "' + b"x" * MESSAGE_MAX_BYTES
    decoded = decode(body[: MESSAGE_MAX_BYTES + 1])
    assert "the message is over 1 MiB: put large content into a store and name its URL" == decoded.problem
    assert "abc" == decoded.job.id


@pytest.mark.parametrize(
    ("body", "job_id"),
    [
        (b'{"env": {"id": "inner"}, "id": "abc", "command": [', "abc"),
        (b'{"env": {"id": "inner"}, "command": [', ""),
        (b'{"text": "\\"id\\": 1", "id": "a\\u0062c", ]', "abc"),
        (b'{"id": 5, "command": [', ""),
        (b"id = 'abc'\ncommand = [", "abc"),
        (b'command = ["x"\n[resources]\nid = "inner"', ""),
        (b'id = "' + b"x" * 600, ""),
    ],
)
def test_the_id_is_found_in_a_broken_message(body: bytes, job_id: str) -> None:
    """Its sender looks for it by that id; a key of the same name further in is not it."""
    assert job_id == decode(body).job.id


@pytest.mark.parametrize(
    "body",
    [
        b"a." * 500_000 + b"a = 1",
        b"'''" * 340_000,
        b'"\\' * 500_000,
        b'\\"""' * 250_000,
        b'{"a":' * 200_000,
        b"a = [" + b"[" * 1_000_000,
        b"a = 0x" + b"f" * 1_000_000,
        b'a = "' + b"\\n" * 500_000,
        b"9" * 1_000_000,
    ],
    ids=lambda body: body[:12].decode(),
)
@pytest.mark.timeout(20)
def test_a_hostile_message_costs_no_more_than_its_length(body: bytes) -> None:
    """Each of these keeps a careless parser busy for minutes or overflows its stack."""
    assert decode(body).problem


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from([field.name for field in msgspec.structs.fields(Job)])


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=200) | st.text().map(str.encode) | st.sampled_from(REFUSED).map(lambda row: row.bytes()[:2000])
)
def test_no_bytes_raise(body: bytes) -> None:
    decoded = decode(body)
    assert decoded.problem.isprintable()


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(FIELDS, JSON_VALUES, max_size=4))
def test_no_document_raises_and_what_passes_can_be_written_again(document: dict[str, object]) -> None:
    """Any value at any field; an accepted job must also survive the journal, which writes JSON."""
    decoded = decode(json.dumps(document).encode())
    assert decoded.problem.isprintable()
    if not decoded.problem:
        assert decoded.job == decode(encode_job(decoded.job, "json")).job


PRINTABLE = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_categories=["Cc", "Cf", "Cs", "Zs", "Zl"]), max_size=20
)
DURATIONS = st.integers(1, 10**6).map(Duration) | st.floats(0.001, 10**6).map(Duration)
MEMORY = st.integers(1 << 20, 1 << 60).map(Size)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
JOBS = st.builds(
    Job,
    id=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
    name=PRINTABLE,
    command=st.lists(TEXTS, max_size=4).map(lambda words: ("run", *words)),
    timeout=st.none() | DURATIONS,
    stop_grace=DURATIONS,
    retries=st.integers(0, 100),
    env=st.dictionaries(st.from_regex(r"[A-Z_][A-Z0-9_]*", fullmatch=True), TEXTS, max_size=3),
    resources=st.builds(Resources, gpus=st.integers(0, 8), cpus=st.floats(0.1, 64), memory=st.none() | MEMORY),
    inputs=st.lists(st.builds(Input, path=st.uuids().map(str), text=TEXTS), max_size=2).map(tuple),
    outputs=st.lists(st.builds(Output, path=st.uuids().map(str), url=st.just("folder:///o")), max_size=2).map(tuple),
)


@settings(max_examples=100, deadline=None)
@given(JOBS)
def test_a_job_written_in_either_form_is_read_back_the_same(job: Job) -> None:
    for form in ("json", "toml"):
        decoded = decode(encode_job(job, form))
        assert ("", job) == (decoded.problem, decoded.job)


def test_defaults_are_not_written() -> None:
    assert b'command = ["true"]\n' == encode_job(Job(command=("true",)), "toml")


def test_events_and_log_records_are_told_as_json_lines() -> None:
    """Clients of a queue read these lines, so their names and order are a contract."""
    event = Event("digits-1.0123456789abcdef", "digits-1", 1767225600.5, "ended", 2, "exit 3", "failed", 3)
    lines = [
        LogLine(2, 7 + at, 1767225600500000000, "stdout", data) for at, data in enumerate((b"\xc3\xa9\n", b"\xff\n"))
    ]
    dialect = NativeDialect()
    told = [dialect.encode(event), *map(dialect.encode, lines)]
    assert (GOLDEN / "told.jsonl").read_bytes() == b"".join(one + b"\n" for one in told)
