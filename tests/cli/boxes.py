"""State directories as an earlier runner would have left them."""

import asyncio
from pathlib import Path

from adapters.journal import SqliteJournal
from adapters.spool import FileSpool
from runner.job import Decision, EndReason, Job, Note, PastAttempt, Verdict, make_key
from runner.receipt import GrantAccount, Isolation, LogAccount, OutputAccount, Receipt, RunnerAccount
from runner.records import (
    ClaimedJob,
    ClaimRecord,
    Grant,
    GrantedGpu,
    GrantRecord,
    JournalRecord,
    Place,
    PlaceRecord,
    SettleRecord,
    StagedJob,
    StageRecord,
    StartRecord,
    StoreRecord,
    WaitRecord,
)

BOX = "0190f8a0-0000-4000-8000-000000000001"
CLAIMED_AT = 1_000_000.0
GPU = GrantedGpu(0, "GPU-a")


def claim(job_id: str, *, name: str = "", user: str = "ada", at: float = CLAIMED_AT) -> ClaimRecord:
    """Return the record of a job that was just claimed."""
    key = make_key("q", job_id, "s1")
    claimed = ClaimedJob(key, Job(id=job_id, name=name, user=user), "q", "train", "local.toml", submitted_at=at - 1)
    return ClaimRecord(claimed, "t", b"{}", at)


def waiting(job_id: str) -> list[JournalRecord]:
    """Return the records of a job that waits for GPUs."""
    first = claim(job_id, at=CLAIMED_AT + 30)
    return [first, WaitRecord("needs 2 GPUs, 1 is free", CLAIMED_AT + 31)]


def running(job_id: str) -> list[JournalRecord]:
    """Return the records of a job that runs."""
    first = claim(job_id, at=CLAIMED_AT + 20)
    return [
        first,
        PlaceRecord(1 << 30, CLAIMED_AT + 21),
        GrantRecord(Grant((Place(gpus=(GPU,), cores=(0, 1), cpus=2.0, memory=1 << 30),)), CLAIMED_AT + 21),
        StageRecord(StagedJob("/w/1"), CLAIMED_AT + 22),
        StartRecord("c-1", CLAIMED_AT + 23),
    ]


def ended(job_id: str) -> list[JournalRecord]:
    """Return the records of a job that failed for good."""
    first = claim(job_id, name="typo")
    receipt = receipt_of(first.claim)
    decision = Decision(Verdict.ACK, 0.0, Note())
    return [first, StoreRecord(receipt, decision, CLAIMED_AT + 9), SettleRecord(CLAIMED_AT + 9)]


def receipt_of(claimed: ClaimedJob) -> Receipt:
    """Return a receipt with something in every part that people read."""
    return Receipt(
        id=claimed.id,
        name=claimed.job.name,
        user=claimed.job.user,
        queue=claimed.queue_name,
        state="ended",
        end_reason=EndReason.FAILED.value,
        exit_code=3,
        attempt=2,
        submitted_at=claimed.submitted_at,
        started_at=CLAIMED_AT + 2,
        ended_at=CLAIMED_AT + 8,
        gpus=("GPU-a",),
        box=BOX,
        key=claimed.key,
        message="train.py: no such option --epoch",
        verdict=Verdict.ACK.value,
        attempts=(PastAttempt(BOX, "failed", 4.0), PastAttempt(BOX, "failed", 6.0)),
        stages={"waited": 1.0, "running": 6.0},
        grant=GrantAccount(("GPU-a",), (0, 1), 1 << 30, 2.0),
        isolation=Isolation("process", "210000", "none", missing=("network",)),
        outputs=(OutputAccount("model", problem="was never written"),),
        log=LogAccount(2, 12, "9f2c"),
        runner=RunnerAccount("0.1.0", BOX),
    )


def write_box(state: Path, *jobs: list[JournalRecord]) -> None:
    """Write a journal, a box id and spools."""

    async def write() -> None:
        journal = SqliteJournal(str(state / "journal.db"), str(state / "journal.key"))
        for records in jobs:
            first = records[0]
            assert isinstance(first, ClaimRecord)
            for record in records:
                await journal.append(first.claim.key, record)
        await journal.close()

    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    (state / "box-id").write_text(BOX + "\n")
    asyncio.run(write())


def write_log(state: Path, job_id: str, *lines: tuple[str, bytes]) -> None:
    """Write a job's spool, stream by stream."""

    async def write() -> None:
        spool = FileSpool(str(state / "spool"), lambda: 1_500_000_000)
        key = make_key("q", job_id, "s1")
        for stream, data in lines:
            await spool.append(key, 1, stream, data)
        await spool.close()

    asyncio.run(write())
