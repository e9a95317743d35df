"""Records of a job that went all the way round, as the journal gets them."""

from __future__ import annotations

import msgspec

from runner.credential import Rights
from runner.job import Decision, EndReason, Input, Job, Key, Note, Output, PastAttempt, Resources, Verdict, make_key
from runner.receipt import InputAccount, Isolation, OutputAccount, Receipt, Usage
from runner.records import (
    ClaimedJob,
    ClaimRecord,
    ExitRecord,
    FaultRecord,
    Grant,
    GrantedGpu,
    GrantRecord,
    JournalRecord,
    Outcome,
    Place,
    PlaceRecord,
    SettleRecord,
    StagedJob,
    StageRecord,
    StartRecord,
    StoreRecord,
    UploadRecord,
    WaitRecord,
)
from runner.units import Duration, Size

BODY = b'{"id": "digits", "env": {"TOKEN": "hunter2"}} \xff\x00'
TOKEN = "token-1"
JOB = Job(
    id="digits",
    command=("python3", "train.py"),
    timeout=Duration(3600),
    env={"TOKEN": "hunter2"},
    resources=Resources(gpus=1, memory=Size(1 << 30)),
    inputs=(Input(path="settings", text="password = hunter2"), Input(path="data", url="folder:///data")),
    outputs=(Output(path="model", every=Duration(60)),),
)


def key_of(job_id: str, submission: str = "first") -> Key:
    return make_key("folder:///q", job_id, submission)


def claim(
    job_id: str = "digits", *, attempt: int = 1, at: float = 100.0, token: str = TOKEN, submission: str = "first"
) -> ClaimRecord:
    job = msgspec.structs.replace(JOB, id=job_id)
    note = Note(attempts=attempt - 1, boxes=("box-2",), history=(PastAttempt("box-2", "failed", 1.5),))
    claimed = ClaimedJob(
        key=key_of(job_id, submission),
        job=job,
        queue="folder:///q",
        queue_name="q",
        source="own",
        attempt=attempt,
        note=note,
        submitted_at=at - 10,
        claimed_at=at,
        rights=Rights(paths=("/data",)),
    )
    return ClaimRecord(claimed, token, BODY, at)


def stored(verdict: Verdict | None = Verdict.ACK, *, at: float = 160.0) -> StoreRecord:
    receipt = Receipt(id="digits", key=key_of("digits"), state="ended", end_reason="succeeded", stages={"running": 9.5})
    return StoreRecord(receipt, None if verdict is None else Decision(verdict, 0.0, Note(attempts=1)), at)


def exited(*, at: float = 150.0) -> ExitRecord:
    outcome = Outcome(EndReason.SUCCEEDED, "", 0, 120.0, at, Usage(memory_peak=1 << 20), Isolation(runtime="process"))
    return ExitRecord(outcome, at)


FAULT = FaultRecord("staging", 1, 105.0)
GRANT = GrantRecord(Grant((Place(gpus=(GrantedGpu(0, "GPU-0"),), cores=(0, 1), cpus=2, memory=1 << 30),)), 115.0)
ON_THE_WAY: tuple[JournalRecord, ...] = (
    WaitRecord("needs 1 GPU, none is free", 110.0),
    PlaceRecord(1 << 30, 112.0),
    GRANT,
    StageRecord(StagedJob("work/1", inputs=(InputAccount("folder:///data", "sha256:00", 3),)), 118.0),
    StartRecord("digits.1", 120.0),
    exited(),
    UploadRecord((OutputAccount("model", "folder:///out", "sha256:01", 4),), 155.0),
    stored(),
    SettleRecord(170.0),
)
