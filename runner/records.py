"""
What is known of a job on its way round the ring: the claim, the grant, what was staged, how it ended.

The same structs stand in messages and in the journal, so that a job re-enters at its own stage after a restart.
Times are UTC epoch seconds.
"""

from __future__ import annotations

import msgspec

from runner.credential import Rights
from runner.job import Decision, EndReason, Job, Key, Note
from runner.receipt import InputAccount, Isolation, OutputAccount, Receipt, Usage


class ClaimedJob(msgspec.Struct, frozen=True):
    """
    A job that this box has claimed: decoded, numbered, with the rights of its queue.

    ``queue`` is the queue's identity, equal on every box; ``source`` the credential file it came through. ``runtime``
    is ``container`` or ``process``. ``problem`` says why a message is not to run, and ``ends_as`` how it ends then; of
    one that cannot be read ``job`` may hold the id alone. ``user`` is whose turn in the queue it took, "" where the
    message named nobody. ``release_costs`` is as the queue says.
    """

    key: Key
    job: Job
    queue: str
    queue_name: str
    source: str
    attempt: int = 1
    note: Note = Note()
    submitted_at: float = 0.0
    claimed_at: float = 0.0
    rights: Rights = Rights()
    runtime: str = "process"
    problem: str = ""
    ends_as: EndReason = EndReason.REJECTED
    user: str = ""
    release_costs: bool = False

    @property
    def id(self) -> str:
        """The job's own id."""
        return self.job.id


class GrantedGpu(msgspec.Struct, frozen=True):
    """One card in a grant."""

    index: int
    uuid: str
    simulated: bool = False


class Place(msgspec.Struct, frozen=True):
    """What one process group of a job gets: GPUs, cores by number, a CPU share, bytes of memory and disk."""

    place: str = "box"
    gpus: tuple[GrantedGpu, ...] = ()
    cores: tuple[int, ...] = ()
    cpus: float = 1.0
    memory: int = 0
    disk: int = 0


class Grant(msgspec.Struct, frozen=True):
    """All places of a job; one on a box."""

    places: tuple[Place, ...]

    @property
    def here(self) -> Place:
        """The place on this box."""
        return self.places[0]


class StagedJob(msgspec.Struct, frozen=True):
    """
    Where a job's workspace stands and what was put into it; ``workspace`` is a reference that Containers resolves.

    ``image_id`` is what the name meant when it was staged, and is what runs, whatever the name means by then.
    """

    workspace: str
    image: str = ""
    image_digest: str = ""
    inputs: tuple[InputAccount, ...] = ()
    image_id: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """How an attempt ended. ``exit_code`` is None where no process of the job ran; 128+n for signal n."""

    reason: EndReason
    message: str = ""
    exit_code: int | None = None
    started_at: float | None = None
    ended_at: float | None = None
    usage: Usage = Usage()
    isolation: Isolation = Isolation()
    steps: tuple[int, ...] = ()


class ClaimRecord(msgspec.Struct, frozen=True):
    """Journal: a delivery was claimed. ``body`` are the message's own bytes, encrypted at rest by the adapter."""

    claim: ClaimedJob
    token: str
    body: bytes
    at: float


class PlaceRecord(msgspec.Struct, frozen=True):
    """Journal: this box will run it; bytes of disk are granted."""

    disk: int
    at: float


class GrantRecord(msgspec.Struct, frozen=True):
    """Journal: what the job was given."""

    grant: Grant
    at: float


class StageRecord(msgspec.Struct, frozen=True):
    """Journal: the workspace is complete."""

    staged: StagedJob
    at: float


class StartRecord(msgspec.Struct, frozen=True):
    """
    Journal: the container of this name is about to be created.

    ``up_s`` are seconds since the machine booted, its sleep included: a clock that nobody sets.
    """

    container: str
    at: float
    up_s: float | None = None


class StopRecord(msgspec.Struct, frozen=True):
    """Journal: the container was told to stop, and why; a later life goes on with it."""

    reason: EndReason
    message: str
    at: float


class ExitRecord(msgspec.Struct, frozen=True):
    """Journal: the job ended, with or without having run; its container may be removed."""

    outcome: Outcome
    at: float


class StoreRecord(msgspec.Struct, frozen=True):
    """
    Journal: outputs and receipt are stored; ``decision`` is None where another box has the job.

    A release stores nothing: its receipt only says ``waiting``.
    """

    receipt: Receipt
    decision: Decision | None
    at: float


class SettleRecord(msgspec.Struct, frozen=True):
    """Journal: the broker confirmed the verdict."""

    at: float


class WaitRecord(msgspec.Struct, frozen=True):
    """Journal: what the job waits for, in one sentence."""

    sentence: str
    at: float


class FaultRecord(msgspec.Struct, frozen=True):
    """Journal: this job's own task made the runner end in ``stage``, ``times`` so far."""

    stage: str
    times: int
    at: float


class UploadRecord(msgspec.Struct, frozen=True):
    """Journal: outputs that stand in their stores already, so that a restart does not store them twice."""

    outputs: tuple[OutputAccount, ...]
    at: float


JournalRecord = (
    ClaimRecord
    | PlaceRecord
    | GrantRecord
    | StageRecord
    | StartRecord
    | StopRecord
    | ExitRecord
    | UploadRecord
    | StoreRecord
    | SettleRecord
    | WaitRecord
    | FaultRecord
)


class JournalEntry(msgspec.Struct, frozen=True):
    """
    Everything the journal knows of one key: the newest record of each kind.

    A ``ClaimRecord`` of a later attempt, or after the last one was settled, clears all others except ``faulted``; one
    of the same attempt in flight only renews token and claim.
    """

    key: Key
    claimed: ClaimRecord
    placed: PlaceRecord | None = None
    granted: GrantRecord | None = None
    staged: StageRecord | None = None
    starting: StartRecord | None = None
    stopping: StopRecord | None = None
    exited: ExitRecord | None = None
    uploaded: UploadRecord | None = None
    stored: StoreRecord | None = None
    settled: SettleRecord | None = None
    waiting: WaitRecord | None = None
    faulted: FaultRecord | None = None

    @property
    def state(self) -> str:
        """
        The job's state as ``ps`` says it: waiting, staging, running, storing or ended; waiting again after a retry.
        """
        if self.stored is not None:
            return self.stored.receipt.state
        if self.exited is not None:
            return "storing"
        if self.starting is not None:
            return "running"
        return "waiting" if self.placed is None or self.staged is not None else "staging"
