"""Output joined into records: nothing lost, none larger than what a sink sends, lines cut only where they must be."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.executor.joining import RECORD_MAX_BYTES, Joiner

LINES = st.lists(st.sampled_from([1, 100, 9_000, RECORD_MAX_BYTES, RECORD_MAX_BYTES + 1, 200_000]), max_size=12)


@settings(max_examples=40)
@given(LINES, st.integers(1_000, 300_000))
def test_records_are_whole_lines_where_those_fit(sizes: list[int], piece_bytes: int) -> None:
    text = b"".join(b"x" * (size - 1) + b"\n" for size in sizes)
    joiner, records = Joiner(), list[bytes]()
    for at in range(0, len(text), piece_bytes):
        joiner.add("stdout", text[at : at + piece_bytes], now=0.0)
        records += [data for _, data in joiner.take(now=0.0)]
    joiner.end()
    records += [data for _, data in joiner.take(now=0.0)]
    assert b"".join(records) == text
    assert all(0 < len(record) <= RECORD_MAX_BYTES for record in records)
    if all(size <= 9_000 for size in sizes):
        assert all(record.endswith(b"\n") for record in records)
