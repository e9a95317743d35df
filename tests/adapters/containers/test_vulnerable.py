"""What a box that refuses to give GPUs to containers while they are known to be open says, and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adapters.containers.engine_parts import LIMIT_S, parts
from adapters.containers.vulnerable import OpenEscapes, reason
from adapters.escapes import Part
from runner.errors import Unavailable

RUNC = Part("runc", "1.1.11", "project")
MENDED = Part("runc", "1.1.5+ds1-1+deb12u1", "distribution")
TOOLKIT = Part("nvidia-container-toolkit", "1.17.7-1", "project")


def test_only_what_is_known_to_be_open_counts_and_is_named() -> None:
    assert reason(()) == ""
    assert reason((MENDED, Part("docker", "29.8.1", "nobody knows"))) == ""
    assert "(CVE-2025-23266 in nvidia-container-toolkit 1.17.7-1, CVE-2025-23267" in reason((MENDED, TOOLKIT))
    assert "CVE-2024-21626 in runc 1.1.11" in reason((RUNC,))
    assert "and 4 more" in reason((RUNC, TOOLKIT))


VERSION = b'{"Components": [{"Name": "runc", "Version": "1.1.11", "Details": {"GitCommit": "v1.1.11-0-g4bccb38c"}}]}'


@asynccontextmanager
async def engine(directory: Path, answers: list[bytes]) -> AsyncIterator[str]:
    """Answer like an engine, once for each answer, and not at all after that."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answers:
            body = answers.pop(0)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body))
            await writer.drain()
        else:
            await reader.read()
        writer.close()

    socket = directory / "engine.sock"
    async with await asyncio.start_unix_server(serve, socket):
        yield f"unix://{socket}"


def test_what_the_engine_tells_is_remembered_for_a_while_and_asked_anew_after_it(tmp_path: Path) -> None:
    """An engine that is upgraded under the runner gives GPUs again."""

    async def main() -> None:
        async with engine(tmp_path, [VERSION, VERSION.replace(b"1.1.11", b"1.3.4")]) as url:
            patient, eager = OpenEscapes(url), OpenEscapes(url, every_s=0.0)
            assert "CVE-2024-21626 in runc 1.1.11" in await patient.why_no_gpus()
            assert "CVE-2024-21626 in runc 1.1.11" in await patient.why_no_gpus()
            assert await eager.why_no_gpus() == ""

    asyncio.run(main())


def test_an_engine_that_hangs_is_waited_for_so_long_and_no_longer(tmp_path: Path) -> None:
    async def main() -> None:
        async with engine(tmp_path, []) as url:
            before = time.monotonic()
            with pytest.raises(Unavailable):
                await asyncio.to_thread(parts, url, 0.2)
            assert time.monotonic() - before < LIMIT_S

    asyncio.run(main())


def test_an_engine_that_is_away_forbids_nothing() -> None:
    assert asyncio.run(OpenEscapes("unix:///nowhere.sock").why_no_gpus()) == ""


@pytest.mark.docker
@pytest.mark.integration
def test_a_real_engine_is_asked_once_in_a_while(docker_url: str) -> None:
    """What a distribution mended, or may have, forbids nothing."""

    async def main() -> list[str]:
        gate = OpenEscapes(docker_url)
        return [await gate.why_no_gpus() for _ in range(3)]

    assert len(set(asyncio.run(main()))) == 1
