"""
The job: what it asks for, how it can end, and what each end means.

Frozen structs without I/O. A native message is :class:`Job` one to one, in TOML or JSON (``adapters/wire/native.py``);
foreign dialects decode into the same struct.
"""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum
from typing import Annotated, Literal, NewType

import msgspec

from runner.units import Duration, Size

Key = NewType("Key", str)
"""Identifies a job everywhere on a box and in a result backend; safe as a file and container name."""

ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
MESSAGE_MAX_BYTES = 1 << 20
TEXT_INPUT_MAX_BYTES = 256 << 10


class Build(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A Dockerfile in the workspace, built instead of an image; ``push`` names where the result may go."""

    path: str = "."
    dockerfile: str = "Dockerfile"
    push: str = ""


class Venv(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A virtual environment, built once and cached."""

    python: str = ""
    requirements: tuple[str, ...] = ()


class Resources(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one job needs of a box; absent sizes take the box's default."""

    gpus: float = 0
    gpu_memory: Size | None = None
    gpu_model: str = ""
    cpus: float = 1
    memory: Size | None = None
    disk: Size | None = None
    shm: Size | None = None
    nodes: int = 1


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing staged into the workspace at ``path``: from ``url``, or ``text`` (at most 256 KiB)."""

    path: str = ""
    url: str = ""
    text: str | None = None
    unpack: bool = False
    mutable: bool = False
    sha256: str = ""


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file or directory of the workspace, stored at ``url`` (the id is appended) or at the exact ``key``."""

    path: str
    url: str = ""
    key: str = ""
    pack: Literal["", "tar", "tar.gz", "zip"] = ""
    when: Literal["always", "success"] = "always"
    every: Duration | None = None
    resume: bool = False


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    One native job. Durations are seconds, sizes are bytes once decoded.

    ``timeout`` counts one attempt from its start, ``expires`` all attempts from submission; absent ones take the
    queue's, else the box's. ``retries`` are more attempts after a failure of the job itself.
    """

    id: str = ""
    name: str = ""
    user: str = ""
    command: tuple[str, ...] = ()
    steps: tuple[tuple[str, ...], ...] = ()
    keep_going: bool = False
    build: Build | None = None
    venv: Venv | None = None
    image: str = ""
    timeout: Duration | None = None
    expires: Duration | None = None
    silent_for: Duration | None = None
    stop_grace: Duration = Duration(10)
    retries: int = 0
    priority: int = 0
    exclusive: Literal["no", "gpu", "box"] = "no"
    network: str = "none"
    capabilities: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    requires: dict[str, str] = {}
    env: dict[str, str] = {}
    secrets: tuple[str, ...] = ()
    continue_from: str = ""
    resources: Resources = Resources()
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()


class EndReason(StrEnum):
    """How a job can end; a closed list."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    OOM = "oom"
    GPU_OOM = "gpu_oom"
    TIMEOUT = "timeout"
    SILENT = "silent"
    DISK_EXCEEDED = "disk_exceeded"
    LOG_FLOOD = "log_flood"
    REJECTED = "rejected"
    EXPIRED = "expired"
    INPUT_REFUSED = "input_refused"
    IMAGE_REFUSED = "image_refused"
    ENVIRONMENT_FAILED = "environment_failed"
    CANCELLED = "cancelled"
    GPU_FAULT = "gpu_fault"
    PREEMPTED = "preempted"
    INPUT_UNAVAILABLE = "input_unavailable"
    IMAGE_UNAVAILABLE = "image_unavailable"
    OUTPUT_FAILED = "output_failed"
    DISK_FULL = "disk_full"
    RUNNER_FAULT = "runner_fault"
    LEASE_LOST = "lease_lost"


class Verdict(StrEnum):
    """What becomes of the queue's message."""

    ACK = "ack"
    RETRY = "retry"
    RELEASE = "release"
    REJECT = "reject"


class Whose(StrEnum):
    """Who answers for an end."""

    NOBODY = "nobody"
    JOB = "job"
    MESSAGE = "message"
    USER = "user"
    BOX = "box"
    OTHER_BOX = "other box"


class Ending(msgspec.Struct, frozen=True):
    """One row of the table: ``follow_exit`` is None where the exit is the job's own code, or none at all."""

    whose: Whose
    verdict: Verdict | None
    follow_exit: int | None


_ACK, _RETRY, _REJECT = Verdict.ACK, Verdict.RETRY, Verdict.REJECT

ENDINGS: dict[EndReason, Ending] = {
    EndReason.SUCCEEDED: Ending(Whose.NOBODY, _ACK, 0),
    EndReason.FAILED: Ending(Whose.JOB, _RETRY, None),
    EndReason.OOM: Ending(Whose.JOB, _RETRY, 137),
    EndReason.GPU_OOM: Ending(Whose.JOB, _RETRY, 137),
    EndReason.TIMEOUT: Ending(Whose.JOB, _RETRY, 124),
    EndReason.SILENT: Ending(Whose.JOB, _RETRY, 124),
    EndReason.DISK_EXCEEDED: Ending(Whose.JOB, _RETRY, 125),
    EndReason.LOG_FLOOD: Ending(Whose.JOB, _RETRY, 125),
    EndReason.REJECTED: Ending(Whose.MESSAGE, _REJECT, 125),
    EndReason.EXPIRED: Ending(Whose.MESSAGE, _REJECT, 125),
    EndReason.INPUT_REFUSED: Ending(Whose.MESSAGE, _REJECT, 125),
    EndReason.IMAGE_REFUSED: Ending(Whose.MESSAGE, _REJECT, 125),
    EndReason.ENVIRONMENT_FAILED: Ending(Whose.MESSAGE, _REJECT, 125),
    EndReason.CANCELLED: Ending(Whose.USER, _ACK, 130),
    EndReason.GPU_FAULT: Ending(Whose.BOX, _RETRY, 125),
    EndReason.PREEMPTED: Ending(Whose.BOX, _RETRY, 125),
    EndReason.INPUT_UNAVAILABLE: Ending(Whose.BOX, _RETRY, 125),
    EndReason.IMAGE_UNAVAILABLE: Ending(Whose.BOX, _RETRY, 125),
    EndReason.OUTPUT_FAILED: Ending(Whose.BOX, _RETRY, 125),
    EndReason.DISK_FULL: Ending(Whose.BOX, _RETRY, 125),
    EndReason.RUNNER_FAULT: Ending(Whose.BOX, _RETRY, 125),
    EndReason.LEASE_LOST: Ending(Whose.OTHER_BOX, None, None),
}

FAULTS_MAX = 5
HISTORY_MAX = 100
"""Lines of a job's history, and names of boxes, that travel with its message; the oldest go first."""

Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
"""What no honest note exceeds: on many services any producer may write one."""


class PastAttempt(msgspec.Struct, frozen=True):
    """One line of a job's history: which box, how it ended, after how many seconds."""

    box: str
    reason: str
    seconds: float = 0.0


class Note(msgspec.Struct, frozen=True):
    """
    What travels with a message between boxes, beside its unchanged body.

    ``attempts`` counts failures of the job itself, ``faults`` those of boxes, ``starts`` processes that really began,
    ``releases`` times it was given back untried; ``boxes`` tried it, ``refused_by`` cannot ever run it.
    """

    attempts: Count = 0
    faults: Count = 0
    starts: Count = 0
    releases: Count = 0
    boxes: tuple[str, ...] = ()
    refused_by: tuple[str, ...] = ()
    last_reason: str = ""
    history: tuple[PastAttempt, ...] = ()

    @property
    def attempt(self) -> int:
        """The number of the attempt that is made now, from 1."""
        return self.attempts + self.faults + 1


class Decision(msgspec.Struct, frozen=True):
    """A verdict with its delay in seconds and the note that travels on."""

    verdict: Verdict
    after_s: float
    note: Note


def decide(reason: EndReason, note: Note, retries: int, past: PastAttempt, *, jitter: float = 0.0) -> Decision | None:
    """
    Return what becomes of a message after an attempt ended with ``reason``; None where another box has it.

    A failure of the job itself burns an attempt and is retried while ``retries`` are left, then acknowledged. A fault
    of the box burns none and is rejected at the fifth. Delays double from 5 s to at most 10 min, less up to half of
    that by ``jitter``, from 0 to 1.
    """
    ending = ENDINGS[reason]
    if ending.verdict is None:
        return None
    job_failed, box_failed = ending.whose is Whose.JOB, ending.whose is Whose.BOX
    after = msgspec.structs.replace(
        note,
        attempts=note.attempts + job_failed,
        faults=note.faults + box_failed,
        boxes=tuple(dict.fromkeys((*note.boxes, past.box)))[-HISTORY_MAX:],
        last_reason=reason.value,
        history=(*note.history, past)[-HISTORY_MAX:],
    )
    verdict = ending.verdict
    if job_failed and after.attempts > retries:
        verdict = Verdict.ACK
    if box_failed and after.faults >= FAULTS_MAX:
        verdict = Verdict.REJECT
    return Decision(verdict, _delay_s(after, jitter) if verdict is Verdict.RETRY else 0.0, after)


def _delay_s(note: Note, jitter: float) -> float:
    doublings = min(note.attempts + note.faults - 1, 10)
    longest_s = min(600.0, 5.0 * (1 << doublings))
    return round(longest_s * (1 - jitter / 2), 3)


def follow_exit(reason: EndReason, exit_code: int | None) -> int | None:
    """Return the exit status of ``submit --follow`` for a job that ended so; None: it goes on elsewhere."""
    if reason is EndReason.FAILED:
        return 1 if exit_code is None else exit_code
    return ENDINGS[reason].follow_exit


def safe_name(job_id: str) -> str:
    """Return the id where it may be a file name, else its hash."""
    if ID_PATTERN.fullmatch(job_id):
        return job_id
    return "h" + hashlib.sha256(job_id.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def make_key(queue: str, job_id: str, submission: str) -> Key:
    """Return the key of one submission of a job: readable by its id, unique by queue, id and submission."""
    told = f"{queue}\0{job_id}\0{submission}".encode("utf-8", "surrogateescape")
    return Key(f"{safe_name(job_id)[:100]}.{hashlib.sha256(told).hexdigest()[:16]}")
