"""Raw output files followed: nothing twice, nothing lost, and an end even where somebody keeps a file open."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from adapters.containers.notices import Notices
from adapters.containers.output_files import CHUNK_MAX_BYTES, LEFTOVER_LIMIT_S, Follower, OutputFile
from runner.ports import Chunk, Gap
from tests.virtual_time import run_virtual


def followed(directory: Path, ended: asyncio.Future[None], *, offset: int = 0, leftovers: bool = False) -> Follower:
    files = [OutputFile(stream, str(directory / stream), offset) for stream in ("stdout", "stderr")]
    return Follower(files, ended, lambda: leftovers)


def over() -> asyncio.Future[None]:
    ended = asyncio.get_running_loop().create_future()
    ended.set_result(None)
    return ended


async def collected(follower: Follower) -> list[Chunk]:
    return [chunk async for chunk in follower.chunks()]


def test_what_was_written_before_the_end_comes_at_once_and_then_the_end(tmp_path: Path) -> None:
    (tmp_path / "stdout").write_bytes(b"out")
    (tmp_path / "stderr").write_bytes(b"err")

    async def main() -> float:
        assert await collected(followed(tmp_path, over())) == [Chunk("stdout", b"out"), Chunk("stderr", b"err")]
        assert await collected(followed(tmp_path, over(), offset=2)) == [Chunk("stdout", b"t"), Chunk("stderr", b"r")]
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 0


@pytest.mark.parametrize("is_there", [True, False])
def test_a_file_with_less_than_was_read_is_a_gap_and_what_comes_after_is_read(
    tmp_path: Path, *, is_there: bool
) -> None:
    """A job may cut off its own output; nobody knows how much of it was not read."""
    if is_there:
        (tmp_path / "stdout").write_bytes(b"abc")
        (tmp_path / "stderr").touch()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        files = [OutputFile("stdout", str(tmp_path / "stdout"), 99), OutputFile("stderr", str(tmp_path / "stderr"), 0)]
        if is_there:
            loop.call_at(1, (tmp_path / "stdout").write_bytes, b"abcdef")
        loop.call_at(2, ended.set_result, None)
        first, *rest = await collected(Follower(files, ended, lambda: False))
        gap = msgspec.json.decode(first.data, type=Gap)
        assert ("gap", None, True) == (first.stream, gap.bytes, "stdout" in gap.reason)
        assert ([Chunk("stdout", b"def")] if is_there else []) == rest

    run_virtual(main())


def test_a_line_after_silence_is_seen_at_once_where_the_kernel_tells(tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        (tmp_path / "stdout").touch()
        (tmp_path / "stderr").touch()
        notices = Notices()
        files = [OutputFile(stream, str(tmp_path / stream), 0) for stream in ("stdout", "stderr")]
        with (tmp_path / "stderr").open("ab", buffering=0) as stderr:
            for number in range(10):
                loop.call_at(60.03 + 7 * number, stderr.write, b"late\n")
            loop.call_at(199, stderr.close)
            loop.call_at(200, ended.set_result, None)
            seen = [loop.time() async for _ in Follower(files, ended, lambda: False, notices).chunks()]
        notices.close()
        assert [pytest.approx(60.03 + 7 * number, abs=0.02) for number in range(10)] == seen

    run_virtual(main())


def test_files_of_one_process_are_told_apart_and_nothing_is_left_open(tmp_path: Path) -> None:
    before = set(Path("/proc/self/fd").iterdir())

    async def main() -> None:
        notices = Notices()
        for name in ("one", "two"):
            (tmp_path / name).touch()
        with notices.of([str(tmp_path / "one")]) as one, notices.of([str(tmp_path / "two")]) as two:
            assert (True, True) == (one.is_sure, two.is_sure)
            (tmp_path / "two").write_bytes(b"x")
            await two.written
            assert not one.written.done()
        with notices.of([str(tmp_path / "absent")]) as absent:
            assert not absent.is_sure
        notices.close()

    asyncio.run(main())
    assert set(Path("/proc/self/fd").iterdir()) <= before


def test_a_container_that_never_wrote_has_nothing_to_tell(tmp_path: Path) -> None:
    async def main() -> None:
        assert await collected(followed(tmp_path, over())) == []

    run_virtual(main())


def test_a_flood_in_one_stream_does_not_hold_up_the_other(tmp_path: Path) -> None:
    (tmp_path / "stdout").write_bytes(b"o" * 10 * CHUNK_MAX_BYTES)
    (tmp_path / "stderr").write_bytes(b"err")

    async def main() -> None:
        chunks = await collected(followed(tmp_path, over()))
        assert chunks[1] == Chunk("stderr", b"err")
        assert [len(chunk.data) for chunk in chunks if chunk.stream == "stdout"] == [CHUNK_MAX_BYTES] * 10

    run_virtual(main())


def test_lines_come_within_a_quarter_of_a_tenth_of_a_second_while_they_flow(tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        with (tmp_path / "stdout").open("ab", buffering=0) as stdout:
            for number in range(100):
                loop.call_at(0.011 * number, stdout.write, b"%.3f\n" % (0.011 * number))
            loop.call_at(1.9, stdout.close)
            loop.call_at(2, ended.set_result, None)
            late = [
                loop.time() - float(line)
                async for chunk in followed(tmp_path, ended).chunks()
                for line in chunk.data.splitlines()
            ]
        assert len(late) == 100
        assert max(late) <= 0.025

    run_virtual(main())


def test_a_silent_job_is_looked_at_ten_times_a_second_and_its_next_line_comes_in_that_time(tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        (tmp_path / "stdout").touch()
        loop.call_at(60.03, (tmp_path / "stdout").write_bytes, b"late")
        loop.call_at(61, ended.set_result, None)
        seen = [(loop.time(), chunk) async for chunk in followed(tmp_path, ended).chunks()]
        assert [chunk for _, chunk in seen] == [Chunk("stdout", b"late")]
        assert 60.03 <= seen[0][0] <= 60.14

    run_virtual(main())


def test_the_end_of_the_job_is_the_end_of_waiting(tmp_path: Path) -> None:
    """A job that does nothing must not take longer for being followed."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        (tmp_path / "stdout").touch()
        loop.call_at(10.001, ended.set_result, None)
        assert await collected(followed(tmp_path, ended)) == []
        return loop.time()

    assert run_virtual(main()) == pytest.approx(10.001)


def test_a_process_that_keeps_a_file_open_is_waited_for_ten_seconds_at_most(tmp_path: Path) -> None:
    """It may write until then, and what it wrote is told; that it might write more is marked."""

    async def main() -> float:
        with (tmp_path / "stdout").open("ab", buffering=0) as stdout:
            asyncio.get_running_loop().call_at(9, stdout.write, b"late")
            late, mark = await collected(followed(tmp_path, over()))
            assert (late, mark.stream) == (Chunk("stdout", b"late"), "gap")
        return asyncio.get_running_loop().time()

    assert LEFTOVER_LIMIT_S <= run_virtual(main()) <= LEFTOVER_LIMIT_S + 0.2


def test_a_process_that_floods_an_open_file_is_not_followed_for_ever(tmp_path: Path) -> None:
    async def main() -> float:
        with (tmp_path / "stdout").open("ab", buffering=0) as stdout:
            stdout.write(b"x")
            async for _ in followed(tmp_path, over()).chunks():
                stdout.write(b"x" * CHUNK_MAX_BYTES)
                await asyncio.sleep(0.5)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) <= LEFTOVER_LIMIT_S + 2


def test_closing_in_the_middle_leaves_no_file_open(tmp_path: Path) -> None:
    (tmp_path / "stdout").write_bytes(b"out")

    async def main() -> None:
        chunks = followed(tmp_path, over()).chunks()
        await anext(chunks)
        await chunks.aclose()
        held = [Path(f"/proc/self/fd/{name.name}").resolve() for name in Path("/proc/self/fd").iterdir()]
        assert tmp_path / "stdout" not in held

    run_virtual(main())
