"""What stands in a queue's directories and belongs to nobody: it breaks nothing, and in the end it goes."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path

import pytest

from runner.job import Note, Verdict
from tests.adapters.queues.folder_queues import Clock, folder_queue, standing

DAY_S = 86_400.0
ODD_NOTES = [b"", b"{", b"\xff", b'{"note": 3}', b'{"reason": "\xff"}', b'{"more": ' + b"[" * 100_000]


@pytest.mark.parametrize("content", ODD_NOTES, ids=range(len(ODD_NOTES)))
def test_a_damaged_note_is_a_fresh_one(tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes) -> None:
    """The job runs once more than it might have; nothing hangs on it."""

    async def main() -> None:
        async with folder_queue(tmp_path / "queue") as queue:
            submission = await queue.put(b"x", job_id="a")
            (tmp_path / "queue" / "notes" / submission).write_bytes(content)
            delivery = await queue.fetch(0)
            assert delivery is not None
            assert Note() == delivery.note
            await queue.settle(delivery.token, Verdict.ACK, after_s=0, note=Note(), reason="")

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert ["note cannot be read"] == [record.message for record in caplog.records]


def test_foreign_names_break_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with folder_queue(tmp_path / "queue") as queue:
            for part in ("tmp", "claimed", "later", "dead", "notes"):
                for name in ("README", "~", "a~b", "1234567890123456~", "1234567890123456~foreign", ".hidden"):
                    (tmp_path / "queue" / part / name).touch()
            await queue.put(b"x", job_id="a")
            delivery = await queue.fetch(0)
            assert delivery is not None
            await queue.settle(delivery.token, Verdict.REJECT, after_s=0, note=Note(), reason="why")
            assert ["why"] == [row.reason for row in await queue.dead()]
            assert not await queue.withdraw("b")
            assert not await queue.drop_dead("foreign")
            assert 1 == await queue.prune(time.time() + DAY_S)

    asyncio.run(main())


def test_old_temporary_files_go_and_fresh_ones_stay(tmp_path: Path) -> None:
    """A put that is on its way now must not lose its file, also to a box whose own clock is a week ahead."""

    async def main() -> None:
        a_week_ahead = time.time() + 7 * DAY_S
        clock = Clock(time.time())
        async with folder_queue(tmp_path / "queue", now=lambda: a_week_ahead, clock=clock) as queue:
            for part, name in (("tmp", "x"), ("notes", ".x.1")):
                for age_s in (0.0, 2 * DAY_S):
                    path = tmp_path / "queue" / part / f"{name}-{age_s}"
                    path.touch()
                    os.utime(path, (time.time() - age_s, time.time() - age_s))
            await queue.prune(time.time())

    asyncio.run(main())
    left = [path.name for part in ("tmp", "notes") for path in (tmp_path / "queue" / part).iterdir()]
    assert ["x-0.0", ".x.1-0.0"] == left


def test_a_message_whose_note_is_old_keeps_it(tmp_path: Path) -> None:
    """A job may wait in a queue for longer than anything is kept."""

    async def main() -> None:
        async with folder_queue(tmp_path / "queue") as queue:
            await queue.put(b"x", job_id="a")
            delivery = await queue.fetch(0)
            assert delivery is not None
            await queue.settle(delivery.token, Verdict.RETRY, after_s=0, note=Note(attempts=1), reason="")
            await queue.prune(time.time() + 1e6)
            again = await queue.fetch(0)
            assert again is not None
            assert Note(attempts=1) == again.note

    asyncio.run(main())


def test_a_submission_that_is_gone_cannot_be_retried(tmp_path: Path) -> None:
    async def main() -> None:
        async with folder_queue(tmp_path / "queue") as queue:
            assert [False, False] == [await queue.retry_dead("x"), await queue.drop_dead("x")]

    asyncio.run(main())
    assert [] == standing(tmp_path / "queue")
