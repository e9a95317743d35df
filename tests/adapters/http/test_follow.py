"""A log as it grows: signs of life while nothing comes, and the end with the job."""

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import cast

from adapters.http.follow import SIGN_OF_LIFE_S, batches
from adapters.spool import FileSpool
from runner.job import EndReason, Job
from runner.leaving import lost_receipt
from runner.ports import Journal, LogLine, Position
from runner.receipt import Receipt
from runner.records import ClaimedJob, ClaimRecord, StoreRecord
from tests.adapters.http.control_box import KEY
from tests.fakes.disk import FakeJournal
from tests.virtual_time import run_virtual


def test_a_reader_of_a_silent_job_hears_that_there_is_somebody(tmp_path: Path) -> None:
    """Proxies and clients give up on what is silent for a minute."""
    journal, spool = FakeJournal(), FileSpool(str(tmp_path), lambda: 7)

    async def write() -> None:
        await asyncio.sleep(60)
        await spool.append(KEY, 1, "stdout", b"late\n")
        await asyncio.sleep(5)
        await journal.append(KEY, StoreRecord(Receipt("x", state="ended", end_reason=EndReason.SUCCEEDED), None, 2.0))

    async def main() -> list[tuple[float, tuple[LogLine, ...]]]:
        claimed = ClaimedJob(KEY, Job(id="x"), "q", "train", "local.toml")
        await journal.append(KEY, ClaimRecord(claimed, "t", b"{}", 1.0))
        clock = asyncio.get_running_loop().time
        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            told = [
                (clock(), lines)
                async for lines in batches(cast("Journal", journal), spool, KEY, Position(), follow=True)
            ]
        await spool.close()
        return told

    told = run_virtual(main())
    assert [(60.0, b"late\n")] == [(at, line.data) for at, lines in told for line in lines]
    silent = [0.0, *(at for at, _ in told)]
    assert max(b - a for a, b in pairwise(silent)) <= SIGN_OF_LIFE_S + 2


def test_a_job_that_another_box_has_is_not_waited_for(tmp_path: Path) -> None:
    """Nothing more of it will come here."""
    journal, spool = FakeJournal(), FileSpool(str(tmp_path), lambda: 7)

    async def main() -> list[bytes]:
        claimed = ClaimedJob(KEY, Job(id="x"), "q", "train", "local.toml")
        await journal.append(KEY, ClaimRecord(claimed, "t", b"{}", 1.0))
        await journal.append(KEY, StoreRecord(lost_receipt(claimed, "this"), None, 2.0))
        await spool.append(KEY, 1, "stdout", b"said here\n")
        async with asyncio.timeout(60):
            batch = [it async for it in batches(cast("Journal", journal), spool, KEY, Position(), follow=True)]
        await spool.close()
        return [line.data for lines in batch for line in lines]

    assert [b"said here\n"] == run_virtual(main())
