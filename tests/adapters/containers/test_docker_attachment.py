"""The engine's frames are taken apart the same however the connection cuts them."""

from __future__ import annotations

import asyncio
import random
import struct
from collections import Counter
from pathlib import Path

from adapters.containers.docker_attachment import Frames, open_attachment
from adapters.containers.docker_engine import Engine

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


def test_what_comes_with_the_answer_is_read_too(tmp_path: Path) -> None:
    """One that attaches to a container that prints already must not begin in the middle of a frame."""
    head = b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n"
    upgraded = head + b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    version = b'{"ApiVersion": "1.41", "MinAPIVersion": "1.12"}'
    known = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(version)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while asked := await reader.readuntil(b"\r\n\r\n"):
            if b"/attach" in asked:
                writer.write(upgraded + WIRE[:3])
                await writer.drain()
                writer.write(WIRE[3:])
                writer.close()
                await writer.wait_closed()
                return
            writer.write(known + version)

    async def main() -> dict[str, bytes]:
        output = {"stdout": b"", "stderr": b""}
        server = await asyncio.start_unix_server(answer, tmp_path / "engine")
        engine = Engine(f"unix://{tmp_path / 'engine'}")
        async with server:
            attachment = await open_attachment(engine, "c0ffee")
            while chunks := await asyncio.wait_for(attachment.read(), 10):
                for chunk in chunks:
                    output[chunk.stream] += chunk.data
            await attachment.close()
        await engine.close()
        return output

    assert {"stdout": b"one\n" + b"x" * 70_000 + b"end", "stderr": b"error\x00\xffyz"} == asyncio.run(main())
