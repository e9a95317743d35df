"""A folder queue on a full disk, and on one without inodes: nothing is lost, what needs no space still works."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from runner.errors import OutOfSpace
from runner.job import Note, Verdict
from tests.adapters.queues.folder_queues import folder_queue, standing
from tests.tiny_disk import free_bytes, tiny_disk


def fill_bytes(disk: Path) -> Callable[[], None]:
    """Use up all space; return what frees it."""
    ballast = disk / "ballast"
    ballast.write_bytes(b"x" * free_bytes(disk))
    return ballast.unlink


def fill_inodes(disk: Path) -> Callable[[], None]:
    """Use up all inodes; return what frees them."""
    ballast = disk / "ballast"
    ballast.mkdir()
    for number in range(os.statvfs(disk).f_favail):
        (ballast / str(number)).touch()
    assert 0 == os.statvfs(disk).f_favail
    return partial(shutil.rmtree, ballast)


FILLS = pytest.mark.parametrize("fill", [fill_bytes, fill_inodes])


@FILLS
def test_a_full_disk_takes_no_message_and_says_where(
    tmp_path: Path, fill: Callable[[Path], Callable[[], None]]
) -> None:
    with tiny_disk(tmp_path / "disk") as disk:

        async def main() -> None:
            async with folder_queue(disk / "queue") as queue:
                free = fill(disk)
                with pytest.raises(OutOfSpace, match=str(disk / "queue")):
                    await queue.put(b"x" * 8192, job_id="a")
                assert 0 == await queue.depth()
                free()
                await queue.put(b"x" * 8192, job_id="a")
                assert 1 == await queue.depth()

        asyncio.run(main())
        assert [] == [path for path in (disk / "queue" / "tmp").iterdir() if not path.name.startswith("clock")]


@FILLS
def test_a_full_disk_still_gives_and_forgets_messages(
    tmp_path: Path, fill: Callable[[Path], Callable[[], None]]
) -> None:
    """Else a full disk could only be got out of by hand."""
    with tiny_disk(tmp_path / "disk") as disk:

        async def main() -> None:
            async with folder_queue(disk / "queue") as queue:
                for job_id in ("a", "b"):
                    await queue.put(b"x", job_id=job_id)
                first = await queue.fetch(0)
                assert first is not None
                fill(disk)
                second = await queue.fetch(0)
                assert second is not None
                for delivery in (first, second):
                    await queue.renew(delivery.token)
                    await queue.settle(delivery.token, Verdict.ACK, after_s=0, note=Note(), reason="")

        asyncio.run(main())
        assert [] == standing(disk / "queue")


@FILLS
@pytest.mark.parametrize("verdict", [Verdict.RETRY, Verdict.RELEASE, Verdict.REJECT])
def test_a_note_that_cannot_be_written_leaves_the_message_claimed(
    tmp_path: Path, fill: Callable[[Path], Callable[[], None]], verdict: Verdict
) -> None:
    """The verdict can be carried out once there is room again; without its note it would be another one."""
    with tiny_disk(tmp_path / "disk") as disk:

        async def main() -> None:
            async with folder_queue(disk / "queue") as queue:
                await queue.put(b"x", job_id="a")
                delivery = await queue.fetch(0)
                assert delivery is not None
                free = fill(disk)
                with pytest.raises(OutOfSpace):
                    await queue.settle(delivery.token, verdict, after_s=0, note=Note(starts=1), reason="why")
                await queue.renew(delivery.token)
                assert (None, ()) == (await queue.fetch(0), await queue.dead())
                free()
                await queue.settle(delivery.token, verdict, after_s=0, note=Note(starts=1), reason="why")
                found = await queue.fetch(0)
                notes = [found.note if found else None, *(row.note for row in await queue.dead())]
                assert Note(starts=1) in notes

        asyncio.run(main())
