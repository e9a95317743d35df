"""Output is put together again from log entries as engines cut them, old ones and new ones."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.containers.docker_log import ENTRY_MAX_BYTES, KeptLog
from runner.errors import Unavailable

NUMBERS = {"stdout": 1, "stderr": 2}
READ_BYTES = 2048
LINE = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([ENTRY_MAX_BYTES - 1, ENTRY_MAX_BYTES, ENTRY_MAX_BYTES + 1, 2 * ENTRY_MAX_BYTES, 40_000]).map(
        lambda size: b"x" * size
    ),
)
OUTPUT = st.lists(LINE, max_size=6).map(b"\n".join)


def entries(output: bytes, *, old: bool) -> Iterator[bytes]:
    """Cut one stream as the engine's copier does: at newlines, and where 16 KiB hold none."""
    buffer, within = bytearray(), False
    for begin in range(0, len(output), READ_BYTES):
        piece = output[begin : begin + READ_BYTES]
        while piece:
            room = ENTRY_MAX_BYTES - len(buffer)
            buffer += piece[:room]
            piece = piece[room:]
            while (end := buffer.find(b"\n")) >= 0:
                yield bytes(buffer[:end]) + (b"" if within and old else b"\n")
                within = False
                del buffer[: end + 1]
            if len(buffer) == ENTRY_MAX_BYTES:
                yield bytes(buffer)
                within = True
                buffer.clear()
    if buffer:
        yield bytes(buffer)


def frame(stream: str, entry: bytes) -> bytes:
    return struct.pack(">BxxxL", NUMBERS[stream], len(entry) + 1) + b" " + entry


def read(frames: bytes, step: int, skip: dict[str, int]) -> dict[str, bytes]:
    log = KeptLog(skip)
    output = {"stdout": b"", "stderr": b""}
    for begin in range(0, len(frames), step):
        for chunk in log.feed(frames[begin : begin + step]):
            output[chunk.stream] += chunk.data
    return output


@given(
    written=st.fixed_dictionaries({"stdout": OUTPUT, "stderr": OUTPUT}),
    old=st.booleans(),
    step=st.integers(1, 70_000),
    skip=st.integers(0, 50_000),
    order=st.randoms(use_true_random=False),
)
def test_nothing_is_lost_or_doubled(written: dict[str, bytes], old: bool, step: int, skip: int, order: object) -> None:  # noqa: FBT001
    """For every stream, wherever the reader left off and however the bytes arrive."""
    waiting = {stream: list(entries(output, old=old)) for stream, output in written.items()}
    frames = b""
    while any(waiting.values()):
        stream = order.choice([stream for stream, left in waiting.items() if left])  # type: ignore[attr-defined]
        frames += frame(stream, waiting[stream].pop(0))
    found = read(frames, max(step, len(frames) // 50), {"stdout": skip, "stderr": 0})
    for stream, output in written.items():
        wanted = output[skip:] if stream == "stdout" else output
        ends_cut = old and output.endswith(b"\n") and len(output[:-1].rpartition(b"\n")[2]) >= ENTRY_MAX_BYTES
        assert found[stream] in ({wanted, wanted[:-1]} if ends_cut else {wanted})


def test_the_newline_of_a_line_that_was_cut_is_put_back() -> None:
    frames = [frame("stdout", entry) for entry in (b"x" * ENTRY_MAX_BYTES, b"", b"next\n")]
    assert read(b"".join(frames), 1 << 20, {}) == {"stdout": b"x" * ENTRY_MAX_BYTES + b"\nnext\n", "stderr": b""}


def test_an_engine_that_cannot_read_its_log_is_believed() -> None:
    words = b" Error grabbing logs: unexpected EOF"
    with pytest.raises(Unavailable, match="unexpected EOF"):
        KeptLog({}).feed(struct.pack(">BxxxL", 3, len(words)) + words)
