"""An open control socket with a fake runner behind it, and a real journal and spool."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from adapters.http.client import ControlClient
from adapters.http.control import open_control
from adapters.journal import SqliteJournal
from adapters.spool import FileSpool
from runner.job import EndReason, Job, make_key
from runner.receipt import GpuRow, GpuTable, QueueRow, Receipt, SourceRow
from runner.records import ClaimedJob, ClaimRecord, StoreRecord

T = TypeVar("T")
KEY = make_key("q", "digits-1", "s1")
SOURCES = (
    SourceRow("local.toml", "folder", "ok", queues=(QueueRow("train", 3),)),
    SourceRow("loose.toml", "rabbitmq", "in use", "", (QueueRow("q", warning="it may run twice"),), "chmod 600 it"),
    SourceRow("none.toml", "redis", "refused", "wrong password"),
    SourceRow("text.toml", "", "unusable", "text.toml is no text: write it as UTF-8"),
    SourceRow("idle.toml", "sqs", "in use"),
)
GPUS = GpuTable("550.1", (GpuRow(0, "GPU-a", "H200", 1 << 37, job="digits-1"),))


@dataclass
class FakeControl:
    """Answers as told and keeps what it was asked."""

    cancelled: list[str] = field(default_factory=list)
    stops: list[tuple[bool, float | None]] = field(default_factory=list)
    failure: Exception | None = None

    async def cancel(self, job_id: str) -> str:
        if self.failure is not None:
            raise self.failure
        self.cancelled.append(job_id)
        return f"{job_id} is being stopped"

    async def sources(self) -> tuple[SourceRow, ...]:
        return SOURCES

    async def gpus(self) -> GpuTable:
        return GPUS

    def stop(self, *, leave: bool, grace_s: float | None) -> bool:
        self.stops.append((leave, grace_s))
        return len(self.stops) == 1

    def drains(self) -> bool:
        return bool(self.stops)


@dataclass
class Box:
    """An open control socket with the journal and the spool behind it."""

    path: Path
    control: FakeControl
    journal: SqliteJournal
    spool: FileSpool
    client: ControlClient

    async def claim(self) -> None:
        claimed = ClaimedJob(KEY, Job(id="digits-1"), "q", "train", "local.toml")
        await self.journal.append(KEY, ClaimRecord(claimed, "t", b"{}", 1.0))

    async def end(self) -> None:
        receipt = Receipt("digits-1", state="ended", end_reason=EndReason.SUCCEEDED, key=KEY)
        await self.journal.append(KEY, StoreRecord(receipt, None, 2.0))

    async def asked(self, ask: Callable[[], T]) -> T:
        return await asyncio.to_thread(ask)


@asynccontextmanager
async def box(directory: Path) -> AsyncIterator[Box]:
    path, control = directory / "control.sock", FakeControl()
    journal = SqliteJournal(str(directory / "journal.db"), str(directory / "journal.key"))
    spool = FileSpool(str(directory / "spool"), lambda: 7)
    try:
        async with open_control(path, control, journal, spool):
            yield Box(path, control, journal, spool, ControlClient(path))
    finally:
        await spool.close()
        await journal.close()
