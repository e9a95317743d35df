"""What is the directory's about results: torn and damaged files, full disks, other processes, its owner, its cost."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adapters.results.folder import FolderResults
from runner.errors import OutOfSpace, Unavailable
from runner.job import Key
from runner.ports import LogLine, Position
from runner.receipt import Event, Receipt
from tests.tiny_disk import free_bytes, tiny_disk

KEY = Key("a.key")
LONG_S = 20.0


@asynccontextmanager
async def opened(root: Path, box: str = "box-1") -> AsyncIterator[FolderResults]:
    results = FolderResults(str(root), box_id=box)
    try:
        yield results
    finally:
        await results.close()


def line(sequence: int, data: bytes = b"x") -> LogLine:
    return LogLine(1, sequence, sequence, "stdout", data)


def end() -> Event:
    return Event(KEY, "a", 10.0, "ended", end_reason="failed")


def files_below(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if path.is_file()}


async def told(results: FolderResults) -> list[LogLine | Event]:
    return [item async for item in results.tail("a", Position(), follow=False)]


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_torn_record_is_cut_off_and_sent_again(tmp_path: Path, cut: int) -> None:
    """A power cut may leave any part of the last write."""
    path = tmp_path / "results" / "jobs" / KEY / "lines.000001.box-1"

    async def main() -> None:
        lines = [line(number, b"%d" % number * 9) for number in range(6)]
        async with opened(tmp_path / "results") as results:
            await results.append(KEY, "a", (), lines[:4])
        os.truncate(path, path.stat().st_size - cut)
        async with opened(tmp_path / "results") as results:
            standing = await told(results)
            assert lines[: len(standing)] == standing
            assert len(standing) < 4
            await results.append(KEY, "a", (), lines)
            assert lines == await told(results)

    asyncio.run(main())


def test_a_torn_event_is_cut_off_and_sent_again(tmp_path: Path) -> None:
    async def main() -> None:
        started = Event(KEY, "a", 1.0, "running")
        async with opened(tmp_path / "results") as results:
            await results.append(KEY, "a", (started, end()), ())
        path = tmp_path / "results" / "jobs" / KEY / "events.box-1"
        os.truncate(path, path.stat().st_size - 5)
        async with opened(tmp_path / "results") as results:
            assert [started] == await told(results)
            await results.append(KEY, "a", (started, end()), ())
            assert [started, end()] == await told(results)

    asyncio.run(main())


def test_a_damaged_record_ends_the_log_there(tmp_path: Path) -> None:
    """It is told by its checksum; what stands before it is true."""

    async def main() -> None:
        async with opened(tmp_path / "results") as results:
            await results.append(KEY, "a", (), [line(0, b"good"), line(1, b"bad!")])
            path = tmp_path / "results" / "jobs" / KEY / "lines.000001.box-1"
            path.write_bytes(path.read_bytes().replace(b"bad!", b"bad?"))
            assert [line(0, b"good")] == await told(results)

    asyncio.run(main())


def test_a_full_disk_is_told_and_loses_nothing_that_was_taken(tmp_path: Path) -> None:
    with tiny_disk(tmp_path / "disk") as disk:

        async def main() -> None:
            async with opened(disk / "results") as results:
                taken = [line(number, b"x" * 50_000) for number in range(3)]
                await results.append(KEY, "a", (), taken)
                (disk / "ballast").write_bytes(b"x" * (free_bytes(disk) - 30_000))
                more = [line(3, b"y" * 10_000), line(4, b"z" * 90_000)]
                receipt = Receipt(id="a", key=KEY, message="x" * 90_000)
                for call in (results.append(KEY, "a", (), more), results.put_receipt(receipt)):
                    with pytest.raises(OutOfSpace, match=str(disk / "results")):
                        await call
                assert None is await results.get("a")
                assert taken == (await told(results))[:3]
                (disk / "ballast").unlink()
                await results.append(KEY, "a", (), more)
                await results.put_receipt(receipt)
                assert [*taken, *more] == await told(results)
                assert receipt == await results.get("a")

        asyncio.run(main())


def test_a_copy_onto_a_full_disk_leaves_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "src").write_bytes(os.urandom(3 << 20))
    with tiny_disk(tmp_path / "disk") as disk:

        async def main() -> None:
            async with opened(tmp_path / "results") as roomy, opened(disk / "results") as tiny:
                url = await roomy.put_upload(str(tmp_path / "src"))
                with pytest.raises(OutOfSpace, match=str(disk / "copy")):
                    await roomy.get_upload(url, str(disk / "copy"))
                with pytest.raises(OutOfSpace, match=str(disk / "results")):
                    await tiny.put_upload(str(tmp_path / "src"))
                with pytest.raises(OutOfSpace, match=str(disk / "results")):
                    await tiny.put_log(KEY, 1, str(tmp_path / "src"))

        asyncio.run(main())
        assert [] == [path for path in disk.rglob("*") if path.is_file()]


def test_a_copy_that_nobody_waits_for_stops(tmp_path: Path) -> None:
    """A cancelled upload of many gigabytes must not go on, nor leave half of it."""
    with (tmp_path / "src").open("wb") as file:
        file.truncate(20 << 30)

    async def main() -> None:
        async with opened(tmp_path / "results") as results:
            upload = asyncio.create_task(results.put_upload(str(tmp_path / "src")))
            await results.stops()
            upload.cancel()
            await asyncio.gather(upload, return_exceptions=True)
            async with asyncio.timeout(LONG_S):
                await results.put_upload(__file__)

    asyncio.run(main())
    assert 1 == len(list((tmp_path / "results" / "uploads").iterdir()))


def test_all_is_the_owners_alone(tmp_path: Path) -> None:
    (tmp_path / "src").touch(0o600)

    async def main() -> None:
        async with opened(tmp_path / "queue" / "results") as results:
            await results.append(KEY, "a", (end(),), [line(0)])
            await results.put_receipt(Receipt(id="a", key=KEY))
            await results.put_upload(str(tmp_path / "src"))
            await results.put_log(KEY, 1, str(tmp_path / "src"))
            await results.request_stop("a")

    asyncio.run(main())
    paths = list((tmp_path / "queue").rglob("*"))
    assert {0o700} == {path.stat().st_mode & 0o777 for path in paths if path.is_dir()}
    assert {0o600} == {path.stat().st_mode & 0o777 for path in paths if path.is_file()}


def test_what_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")

    async def main() -> None:
        async with opened(tmp_path / "results") as results:
            for call in (results.append(KEY, "a", (), [line(0)]), results.list(ended=True)):
                with pytest.raises(Unavailable, match=str(tmp_path / "results")):
                    await call

    asyncio.run(main())


def test_a_log_that_is_pruned_ends_its_followers(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path / "results") as results:
            await results.put_receipt(Receipt(id="a", key=KEY, state="ended", ended_at=1.0))
            await results.append(KEY, "a", (), [line(0)])
            following = results.tail("a", Position(), follow=True)
            assert line(0) == await anext(following)
            assert 1 == await results.prune(2.0)
            async with asyncio.timeout(LONG_S):
                assert [] == [item async for item in following]

    asyncio.run(main())


def test_a_job_that_was_pruned_begins_afresh(tmp_path: Path) -> None:
    """Whatever the writer remembers of it is gone, too."""

    async def main() -> None:
        async with opened(tmp_path / "results") as results:
            for _ in range(2):
                await results.append(KEY, "a", (end(),), [line(0), line(1)])
                assert [line(0), line(1), end()] == await told(results)
                assert 1 == await results.prune(11.0)

    asyncio.run(main())


def test_a_job_that_never_ended_goes_a_month_later(tmp_path: Path) -> None:
    """Its box is gone for good; a box left alone for a year does not fill up."""

    async def main() -> None:
        async with opened(tmp_path / "results") as results:
            await results.append(KEY, "a", (), [line(0)])
            assert 0 == await results.prune(time.time() + 29 * 86_400)
            assert 1 == await results.prune(time.time() + 31 * 86_400)
            assert () == await results.list(ended=True)

    asyncio.run(main())
    assert [] == [path for path in (tmp_path / "results").rglob("*") if path.is_file()]


FOLLOW = """
import asyncio, sys
from adapters.results.folder import FolderResults
from runner.ports import LogLine, Position
async def main():
    async for told in FolderResults(sys.argv[1]).tail("a", Position(), follow=True):
        if isinstance(told, LogLine):
            print(told.data.decode(), flush=True)
asyncio.run(main())
"""


@pytest.mark.integration
def test_a_follower_in_another_process_is_told_at_once(tmp_path: Path) -> None:
    """Half of the lines within 50 ms, through two processes; and it ends by itself after the end."""
    delays: list[float] = []
    with subprocess.Popen(
        [sys.executable, "-c", FOLLOW, str(tmp_path / "results")], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        heard = process.stdout

        async def main() -> None:
            async with opened(tmp_path / "results") as results:
                for number in itertools.count():
                    sent_at = time.monotonic()
                    await results.append(KEY, "a", (), [line(number, b"%d" % number)])
                    assert f"{number}\n" == await asyncio.to_thread(heard.readline)
                    delays.append(time.monotonic() - sent_at)
                    if number == 20:
                        break
                await results.append(KEY, "a", (end(),), ())

        asyncio.run(main())
        assert 0 == process.wait(LONG_S)
    steady = sorted(delays[1:])
    assert steady[len(steady) // 2] < 0.05, delays


def test_what_kills_leave_behind_is_swept(tmp_path: Path) -> None:
    """Half-written files, a job half deleted, an archive whose job is gone; never what is fresh."""
    (tmp_path / "src").touch(0o600)
    root = tmp_path / "results"

    async def main() -> None:
        async with opened(root) as results:
            await results.append(KEY, "a", (), [line(0)])
            await results.put_log(KEY, 1, str(tmp_path / "src"))
            for part in ("uploads", "ids", "logs", "stops", "beats"):
                (root / part / ".partial.1").touch()
            (root / "tmp" / "b.key").mkdir()
            (root / "tmp" / "b.key" / "events.box-1").touch()
            (root / "logs" / "b.key~000001.gz").touch()
            before = files_below(root) - {root / "tmp" / "b.key" / "events.box-1"}
            assert 0 == await results.prune(time.time() - 3600)
            assert before == files_below(root)
            assert 0 == await results.prune(time.time() + 2 * 86_400)
            assert not list(root.rglob("*partial*"))
            assert ["a.key~000001"] == [path.name for path in (root / "logs").iterdir()]
            assert [line(0)] == await told(results)

    asyncio.run(main())
