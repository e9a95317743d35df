"""What people put into a folder queue by hand: files under any name, and things that are no files."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from pathlib import Path

import pytest

from runner.job import Note, Verdict
from runner.ports import DeadLetterRow
from tests.adapters.queues.folder_queues import folder_queue, standing, unnoticed_queue
from tests.adapters.unprivileged import NOBODY, owned_directory, somebody

NAMES = ["job.toml", "a b", "ünï.json", "-", "0" * 40, "experiment-2024-01-01-run-07-final.toml", "x" * 255, "1~2~3"]
LONG_AGO = time.time() - 3600
LONG_S = 20.0


async def made(root: Path) -> Path:
    """Make the queue and return where people drop files."""
    async with folder_queue(root):
        return root / "ready"


def aged(path: Path) -> Path:
    """Make a file look as if it was written long ago, as one that was moved there does."""
    os.utime(path, (LONG_AGO, LONG_AGO), follow_symlinks=False)
    return path


async def dead_after_fetching(root: Path) -> tuple[DeadLetterRow, ...]:
    """Fetch, which must find no message, and return the dead letters."""
    async with folder_queue(root) as queue:
        assert await queue.fetch(0) is None
        return await queue.dead()


@pytest.mark.parametrize("name", [*NAMES, os.fsdecode(b"\xff\xfe")])
def test_a_file_of_any_name_is_a_message(tmp_path: Path, name: str) -> None:
    body = b'command = ["true"]\n'

    async def main() -> None:
        ready = await made(tmp_path / "queue")
        (tmp_path / "job").write_bytes(body)
        aged(tmp_path / "job").rename(ready / name)
        async with folder_queue(tmp_path / "queue") as queue:
            first = await queue.fetch(0)
            assert first is not None
            assert (body, Note()) == (first.body, first.note)
            assert abs(time.time() - first.enqueued_at) < 60, "its age begins when it is found"
            await queue.settle(first.token, Verdict.RETRY, after_s=0, note=Note(attempts=1), reason="")
            second = await queue.fetch(0)
            assert second is not None
            assert (first.submission, Note(attempts=1)) == (second.submission, second.note)
            await queue.settle(second.token, Verdict.ACK, after_s=0, note=second.note, reason="")
        assert [] == standing(tmp_path / "queue")

    asyncio.run(main())


def test_the_same_name_twice_is_two_submissions(tmp_path: Path) -> None:
    """Who drops a job again wants it to run again."""

    async def main() -> None:
        ready = await made(tmp_path / "queue")
        submissions = set()
        async with folder_queue(tmp_path / "queue") as queue:
            for _ in range(2):
                (tmp_path / "job").write_bytes(b"x")
                aged(tmp_path / "job").rename(ready / "job.toml")
                delivery = await queue.fetch(LONG_S)
                assert delivery is not None
                submissions.add(delivery.submission)
                await queue.settle(delivery.token, Verdict.ACK, after_s=0, note=Note(), reason="")
        assert 2 == len(submissions)

    asyncio.run(main())


def test_a_file_that_is_being_copied_is_left_alone(tmp_path: Path) -> None:
    """A copy that was written to a moment ago may not be whole."""

    async def main() -> None:
        ready = await made(tmp_path / "queue")
        (ready / "job.toml").write_bytes(b"half of it")
        async with folder_queue(tmp_path / "queue") as queue:
            assert await queue.fetch(0) is None
            assert [ready / "job.toml"] == list(ready.iterdir())
            (ready / "job.toml").write_bytes(b"half of it and the rest")
            delivery = await queue.fetch(LONG_S)
            assert delivery is not None
            assert b"half of it and the rest" == delivery.body

    asyncio.run(main())


def test_hidden_files_are_nobodys(tmp_path: Path) -> None:
    """Editors, rsync and NFS keep files of their own under such names."""

    async def main() -> None:
        ready = await made(tmp_path / "queue")
        for name in (".nfs0001", ".job.toml.swp", ".X" * 20):
            aged(_written(ready / name))
        assert () == await dead_after_fetching(tmp_path / "queue")
        async with folder_queue(tmp_path / "queue") as queue:
            assert 0 == await queue.depth()
        assert 3 == len(list(ready.iterdir()))

    asyncio.run(main())


def _written(path: Path) -> Path:
    path.write_bytes(b"x")
    return path


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def _directory(path: Path) -> None:
    path.mkdir()
    (path / "precious").write_bytes(b"x")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(path.parent):
        made.bind("s")  # a path may not be as long as a name
    (path.parent / "s").rename(path)


KINDS = {"a FIFO": _fifo, "a symbolic link": _link, "a directory": _directory, "a device or socket": _socket}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("as_ours", [False, True])
def test_what_is_no_file_is_a_dead_letter_with_a_reason(tmp_path: Path, kind: str, *, as_ours: bool) -> None:
    """Opening a FIFO would hang the queue; following a link would read what its owner may not. Under our names, too."""
    name = f"1000000000-{1:016d}-{'0' * 24}-{'0' * 8}-a" if as_ours else "odd"

    async def main() -> None:
        ready = await made(tmp_path / "queue")
        KINDS[kind](ready / name)
        (row,) = await dead_after_fetching(tmp_path / "queue")
        assert f"no regular file but {kind}" in row.reason
        assert [] == list(ready.iterdir())

    asyncio.run(main())


def test_a_dangling_link_is_a_dead_letter(tmp_path: Path) -> None:
    async def main() -> None:
        _dangling((await made(tmp_path / "queue")) / "odd")
        (row,) = await dead_after_fetching(tmp_path / "queue")
        assert "symbolic link" in row.reason
        async with folder_queue(tmp_path / "queue") as queue:
            assert await queue.drop_dead(row.submission)
        assert [] == standing(tmp_path / "queue")

    asyncio.run(main())


def test_a_directory_is_never_deleted(tmp_path: Path) -> None:
    """Somebody moved it there by mistake, and it may be all they have."""

    async def main() -> None:
        _directory((await made(tmp_path / "queue")) / "odd")
        (row,) = await dead_after_fetching(tmp_path / "queue")
        async with folder_queue(tmp_path / "queue") as queue:
            assert 0 == await queue.prune(time.time() + 1e6)
            assert [row] == list(await queue.dead())
        (kept,) = (tmp_path / "queue" / "dead").iterdir()
        assert [kept / "precious"] == list(kept.iterdir())

    asyncio.run(main())


def test_an_odd_thing_holds_nothing_up(tmp_path: Path) -> None:
    async def main() -> None:
        ready = await made(tmp_path / "queue")
        _fifo(ready / "0")
        async with folder_queue(tmp_path / "queue") as queue:
            await queue.put(b"x", job_id="a")
            assert await queue.fetch(0) is not None

    asyncio.run(main())


def test_arrivals_are_found_where_the_kernel_gives_no_notice(tmp_path: Path) -> None:
    """Another machine wrote to the shared directory."""

    async def main() -> None:
        async with unnoticed_queue(tmp_path / "queue") as queue, folder_queue(tmp_path / "queue") as other:
            for _ in range(3):
                waiting = asyncio.create_task(queue.fetch(LONG_S))
                await queue.depth()
                submission = await other.put(b"x", job_id="a")
                delivery = await waiting
                assert delivery is not None
                assert submission == delivery.submission
                await queue.settle(delivery.token, Verdict.ACK, after_s=0, note=Note(), reason="")

    asyncio.run(main())


def test_a_file_that_may_not_be_read_is_a_dead_letter(tmp_path: Path) -> None:
    """Root dropped it into a user's queue; it must not come up again and again."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to be two users")
    with owned_directory() as directory:
        with somebody():
            ready = asyncio.run(made(directory / "queue"))
        (ready / "job.toml").touch(0o600)
        aged(ready / "job.toml")
        with somebody():
            (row,) = asyncio.run(dead_after_fetching(directory / "queue"))
        assert f"user {NOBODY} may not read" in row.reason
