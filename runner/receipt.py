"""
The shapes in which others read what became of a job: rows, receipts, events. Names are a contract.

Times are UTC epoch seconds; stages are seconds; digests are ``sha256:…``.
"""

from __future__ import annotations

import msgspec

from runner.job import PastAttempt


class JobRow(msgspec.Struct, frozen=True):
    """One line of ``ps``; ``state`` is one of ``waiting staging running storing ended``."""

    id: str
    name: str = ""
    user: str = ""
    queue: str = ""
    state: str = "waiting"
    end_reason: str | None = None
    exit_code: int | None = None
    attempt: int = 1
    submitted_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    gpus: tuple[str, ...] = ()
    box: str = ""


class GrantAccount(msgspec.Struct, frozen=True):
    """What the job was given: GPU UUIDs, cores by number, bytes, how much of those cores; 0.0 in earlier receipts."""

    gpus: tuple[str, ...] = ()
    cores: tuple[int, ...] = ()
    memory: int = 0
    cpus: float = 0.0


class Isolation(msgspec.Struct, frozen=True):
    """How the job was kept apart; ``gpu`` is ``enforced`` or ``advisory``; ``missing`` names what was not isolated."""

    runtime: str = ""
    user: str = ""
    network: str = "none"
    gpu: str = "advisory"
    missing: tuple[str, ...] = ()


class Usage(msgspec.Struct, frozen=True):
    """What the job used: bytes, a share of 0 to 1, joules; None where nothing could measure it."""

    memory_peak: int | None = None
    gpu_memory_peak: int | None = None
    gpu_utilisation: float | None = None
    joules: float | None = None
    cpu_seconds: float | None = None


class InputAccount(msgspec.Struct, frozen=True):
    """One input as it was staged."""

    url: str
    digest: str
    bytes: int
    cached: bool = False


class OutputAccount(msgspec.Struct, frozen=True):
    """One output as it was stored; ``problem`` says why it was not, and then the url is empty."""

    path: str
    url: str = ""
    digest: str = ""
    bytes: int = 0
    problem: str = ""


class LogAccount(msgspec.Struct, frozen=True):
    """The job's stdout and stderr (not stream ``runner``) of this attempt, in spool order."""

    lines: int = 0
    bytes: int = 0
    sha256: str = ""
    gaps: int = 0
    url: str = ""


class ImageAccount(msgspec.Struct, frozen=True):
    """The image that ran."""

    name: str
    digest: str = ""


class RunnerAccount(msgspec.Struct, frozen=True):
    """Who wrote the receipt."""

    version: str
    box: str


class Receipt(JobRow, frozen=True):
    """The account of one attempt: what it used and how it ended. Stored once per attempt."""

    key: str = ""
    message: str = ""
    verdict: str | None = None
    attempts: tuple[PastAttempt, ...] = ()
    stages: dict[str, float] = {}
    grant: GrantAccount = GrantAccount()
    isolation: Isolation = Isolation()
    usage: Usage = Usage()
    steps: tuple[int, ...] = ()
    """The exit code of each step that ended, in order; empty for a job of one command."""
    inputs: tuple[InputAccount, ...] = ()
    outputs: tuple[OutputAccount, ...] = ()
    log: LogAccount = LogAccount()
    image: ImageAccount | None = None
    runner: RunnerAccount = RunnerAccount(version="", box="")


class Event(msgspec.Struct, frozen=True):
    """
    One state change of a job, as the result backend tells it; ``end_reason`` only when it ended for good.

    ``row`` is set where the job is told of first: what it is called, so that it can be listed before it has a receipt.
    """

    key: str
    id: str
    at: float
    state: str
    attempt: int = 1
    message: str = ""
    end_reason: str | None = None
    exit_code: int | None = None
    row: JobRow | None = None


def end_of(receipt: Receipt) -> Event:
    """Return the end of a job as its last receipt tells it."""
    return Event(
        receipt.key,
        receipt.id,
        receipt.ended_at or 0.0,
        "ended",
        receipt.attempt,
        receipt.message,
        receipt.end_reason,
        receipt.exit_code,
    )


class Why(msgspec.Struct, frozen=True):
    """What a job waits for, or how it ended, in one sentence; ``since`` in epoch seconds."""

    id: str
    state: str
    sentence: str
    since: float


class Check(msgspec.Struct, frozen=True):
    """One line of ``doctor``; ``state`` is ``ok``, ``warn`` or ``fail``; ``fix`` says what to type."""

    check: str
    state: str
    found: str
    fix: str = ""


class QueueRow(msgspec.Struct, frozen=True):
    """One queue of ``sources``; ``warning`` is what a person should know of how it is served."""

    name: str
    depth: int | None = None
    state: str = "polling"
    warning: str = ""


class SourceRow(msgspec.Struct, frozen=True):
    """
    One credential file of ``sources``; ``reason`` says what is wrong, never with the secret, ``warning`` what works and
    should not stay so, ``note`` what stands behind one that names no queues.
    """

    file: str
    kind: str
    state: str
    reason: str = ""
    queues: tuple[QueueRow, ...] = ()
    warning: str = ""
    note: str = ""


class GpuRow(msgspec.Struct, frozen=True):
    """One card of ``gpus``; ``health`` is one of ``healthy withheld quarantined lost``."""

    index: int
    uuid: str
    model: str
    memory_total: int
    memory_used: int | None = None
    health: str = "healthy"
    reason: str = ""
    job: str | None = None
    processes: tuple[int, ...] = ()


class GpuTable(msgspec.Struct, frozen=True):
    """The document of ``gpus``; ``driver`` is None on a box without one."""

    driver: str | None
    gpus: tuple[GpuRow, ...] = ()


class BoxBeat(msgspec.Struct, frozen=True):
    """
    A box's sign of life in the result backend of one queue, every 10 s: what it has for jobs, and what is free of it.

    ``running`` are ids of this queue's jobs, sorted; ``others`` counts those of other queues, and ``job`` of a card
    that one of them has is "". Memory is in bytes.
    """

    box: str
    at: float
    gpus: tuple[GpuRow, ...] = ()
    running: tuple[str, ...] = ()
    host: str = ""
    cores: int = 0
    cores_free: float = 0.0
    memory: int = 0
    memory_free: int = 0
    others: int = 0
