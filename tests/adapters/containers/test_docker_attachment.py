"""The engine's frames are taken apart the same however the connection cuts them."""

from __future__ import annotations

import random
import struct
from collections import Counter

from adapters.containers.docker_attachment import Frames

WRITTEN = [(1, b"one\n"), (1, b""), (2, b"error\x00\xff"), (1, b"x" * 70_000), (2, b"y"), (2, b"z"), (1, b"end")]
WIRE = b"".join(struct.pack(">BxxxL", number, len(data)) + data for number, data in WRITTEN)


def fed(cuts: list[int]) -> dict[str, bytes]:
    frames, output = Frames(), {"stdout": b"", "stderr": b""}
    for begin, end in zip([0, *cuts], [*cuts, len(WIRE)], strict=True):
        for chunk in frames.feed(WIRE[begin:end]):
            output[chunk.stream] += chunk.data
    return output


def test_every_cut_gives_the_same() -> None:
    wanted = {"stdout": b"one\n" + b"x" * 70_000 + b"end", "stderr": b"error\x00\xffyz"}
    seeded = random.Random(3)
    for cut in (*range(60), *range(len(WIRE) - 60, len(WIRE))):
        assert wanted == fed([cut])
    for _ in range(50):
        assert wanted == fed(sorted(seeded.choices(range(len(WIRE)), k=20)))


def test_neighbours_of_one_stream_come_together() -> None:
    """A flood of short writes is few chunks."""
    wire = b"".join(struct.pack(">BxxxL", number, 2) + b"a\n" for number in (1, 1, 1, 2, 1, 1))
    assert [("stdout", 6), ("stderr", 2), ("stdout", 4)] == [
        (chunk.stream, len(chunk.data)) for chunk in Frames().feed(wire)
    ]
    assert Counter(stdout=1) == Counter(chunk.stream for chunk in Frames().feed(wire[:25]))
