"""Whose clock a folder queue goes by: the file system's, so that a box with a wrong one does no harm."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from adapters.queues.folder_clock import FileSystemClock
from runner.job import Note, Verdict
from tests.adapters.queues.folder_queues import folder_queue

YEAR_S = 365 * 86_400.0


def test_the_clock_is_the_file_systems(tmp_path: Path) -> None:
    clock = FileSystemClock(str(tmp_path / "clock"))
    assert abs(clock.now() - time.time()) < 1.0
    assert clock.now() <= clock.now()


def test_a_box_with_a_wrong_clock_steals_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            folder_queue(tmp_path / "queue") as queue,
            folder_queue(tmp_path / "queue", box="box-2", now=lambda: time.time() + YEAR_S) as wrong,
        ):
            await queue.put(b"x", job_id="a")
            delivery = await queue.fetch(0)
            assert delivery is not None
            assert await wrong.fetch(0) is None
            await queue.renew(delivery.token)
            await queue.settle(delivery.token, Verdict.RETRY, after_s=60, note=Note(), reason="")
            assert await wrong.fetch(0) is None

    asyncio.run(main())


@pytest.mark.slow
def test_a_claim_that_its_own_box_forgot_comes_back_a_lease_later(tmp_path: Path) -> None:
    async def main() -> None:
        async with folder_queue(tmp_path / "queue", lease_s=0.05) as queue:
            submission = await queue.put(b"x", job_id="a")
            assert await queue.fetch(0) is not None
            delivery = await queue.fetch(20)
            assert delivery is not None
            assert submission == delivery.submission

    asyncio.run(main())


def test_a_short_lease_lapses_in_real_time(tmp_path: Path) -> None:
    """Nothing is injected here: two boxes, one directory, one claim that nobody renews."""

    async def main() -> None:
        async with (
            folder_queue(tmp_path / "queue", lease_s=0.05) as queue,
            folder_queue(tmp_path / "queue", box="box-2") as other,
        ):
            submission = await queue.put(b"x", job_id="a")
            assert await queue.fetch(0) is not None
            delivery = await other.fetch(20)
            assert delivery is not None
            assert submission == delivery.submission

    asyncio.run(main())
