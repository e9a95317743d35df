"""
Every message of the ring, grouped by receiver; each says who sends it, in which lane, and how many may stand.

Messages are past-tense facts or imperative requests. The normal lane may wait (back-pressure, forward only); the urgent
lane never waits. The table in ARCHITECTURE.md is this file's index.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from runner.credential import CredentialFile
from runner.job import EndReason, Key
from runner.kernel import Reply
from runner.ports.queues import NOBODY
from runner.receipt import BoxBeat, GpuTable, SourceRow
from runner.records import ClaimedJob, Grant, JournalEntry, Outcome, StagedJob

# To inventory


class Offered(msgspec.Struct, frozen=True):
    """
    poller → inventory: claimed, journaled, decoded. One a delivery, and a crash; uses up the queue's credit.

    ``ahead``: it was fetched to be staged while others run.
    """

    claim: ClaimedJob
    ahead: bool = False


class StagingDone(msgspec.Struct, frozen=True):
    """cache ⇢ inventory: the workspace of this claim is complete: not granted yet, it only waits. One an attempt."""

    key: Key
    claimed_at: float


class Released(msgspec.Struct, frozen=True):
    """
    executor ⇢ inventory (``compute``: GPUs, cores, memory); outputs ⇢ inventory (``all``: the rest). Idempotent.

    ``claimed_at`` says which claim's: a later one of the same job may hold something already.
    """

    key: Key
    part: str
    claimed_at: float


class CreditReturned(msgspec.Struct, frozen=True):
    """
    poller ⇢ inventory: found nothing, or begins.
    A new poller introduces itself by returning the credit that it never had; ``gone`` says that it fetches no more.
    ``retry_after_s`` asks to be left alone for so long; ``shallow`` says that nothing is there to be staged ahead.
    """

    queue: str
    weight: float = 1.0
    retry_after_s: float = 0.0
    shallow: bool = False
    gone: bool = False


class GpusAsked(msgspec.Struct, frozen=True):
    """control ⇢ inventory: the table of ``runner gpus``, answered at once."""

    reply: Reply[GpuTable]


class StopCredits(msgspec.Struct, frozen=True):
    """app ⇢ inventory: the runner drains; give no more credit, and give back what was not placed yet. Idempotent."""


class ProbeReported(msgspec.Struct, frozen=True):
    """
    The probe's own task ⇢ inventory: what the devices look like now.

    ``known`` is false where the driver did not answer: nothing is handed out then, and nothing refused for want of it.
    """

    table: GpuTable
    known: bool = True
    """False where the driver did not answer: nothing is handed out then, and nothing refused for want of it."""


# To every stage


class StopJob(msgspec.Struct, frozen=True):
    """
    control, poller, inventory, app ⇢ inventory, cache, executor, outputs: end it with this reason. One a reason.

    The stage that holds the job ends it; one that does not keeps its key for an hour and ends it on arrival;
    ``outputs`` ignores it once the job exited.
    """

    key: Key
    attempt: int
    reason: EndReason
    at: float
    """Epoch seconds; a claim made later is another one, even of the same attempt, and is not meant."""
    message: str = ""


class PulseAsked(msgspec.Struct, frozen=True):
    """app ⇢ inventory, cache, executor, outputs: answered at once; else the service manager ends the runner."""

    reply: Reply[None]


class QuietChanged(msgspec.Struct, frozen=True):
    """inventory ⇢ poller, cache, outputs, logs: this job has the box for itself, None: nobody has. Latest wins."""

    alone: Key | None


class JobAdopted(msgspec.Struct, frozen=True):
    """
    app ⇢ inventory, cache, executor, outputs: at start, a journaled job re-enters at its own stage, before any credit.

    inventory restores its grant, the stage that the entry stands at goes on with it; the others ignore it.
    """

    entry: JournalEntry


# To cache


class Placed(msgspec.Struct, frozen=True):
    """inventory → cache: this box will run it; ``disk`` bytes are granted. One an attempt."""

    claim: ClaimedJob
    disk: int


# To executor


class Granted(msgspec.Struct, frozen=True):
    """inventory ⇢ executor: its GPUs, cores and memory. One an attempt."""

    claim: ClaimedJob
    grant: Grant


class StopAnnounced(msgspec.Struct, frozen=True):
    """app ⇢ executor: what runs then (epoch s) is stopped; None: not any more. Answered once the jobs know."""

    at: float | None
    reply: Reply[None]


class Staged(msgspec.Struct, frozen=True):
    """cache → executor: workspace and image digest. One an attempt."""

    claim: ClaimedJob
    staged: StagedJob


# To outputs


class Started(msgspec.Struct, frozen=True):
    """executor → outputs: it runs, or was adopted; periodic outputs may begin. One a start."""

    claim: ClaimedJob
    staged: StagedJob
    at: float


class Exited(msgspec.Struct, frozen=True):
    """executor → outputs: container gone, log drained, how it ended. One an attempt."""

    claim: ClaimedJob
    staged: StagedJob
    grant: Grant
    outcome: Outcome


class Ended(msgspec.Struct, frozen=True):
    """poller, inventory, cache, executor, app → outputs: it ends here without having run, and why. One an attempt."""

    claim: ClaimedJob
    reason: EndReason
    message: str
    release_after_s: float | None = None
    """Where set, the message is released, not settled: it leaves this box untried and burns nothing."""
    refused_here: bool = False
    """This box can never run it; the note says so to the next ones."""
    over_cap: bool = False
    """Released since its user has enough running here; the note does not count that, for it is no box's want."""


class LeaseChecked(msgspec.Struct, frozen=True):
    """poller ⇢ outputs: the answer to ``LeaseCheck``: the claim is still ours, or another box has it."""

    key: Key
    held: bool


# To poller


class CreditGiven(msgspec.Struct, frozen=True):
    """
    inventory ⇢ poller: may fetch one; ``ahead``: only where the queue is deeper than that one job. One a queue.
    ``served`` is how far each user of the queue is ahead of the one served least, in seconds of the box; who is not
    named is not ahead, and infinity stands for one who has as much running here as the queue allows. At most 10,000.
    """

    ahead: bool = False
    served: Mapping[str, float] = NOBODY


class SendBeat(msgspec.Struct, frozen=True):
    """inventory ⇢ poller: give this sign of life to those who watch the queue. Latest wins; one may be lost."""

    beat: BoxBeat


class Settled(msgspec.Struct, frozen=True):
    """outputs ⇢ poller: the verdict stands in the journal; carry it out. One a delivery, idempotent."""

    key: Key


class LeaseCheck(msgspec.Struct, frozen=True):
    """outputs ⇢ poller: renew this claim now; nothing is stored before the answer. One an attempt stands at most."""

    key: Key


class CredentialChanged(msgspec.Struct, frozen=True):
    """sources ⇢ poller: new content behind the same name. Latest wins."""

    file: CredentialFile


class TakenOver(msgspec.Struct, frozen=True):
    """poller ⇢ poller: the queue that you finished is mine now, with all that you hold of it; close it. One."""


class WithdrawAsked(msgspec.Struct, frozen=True):
    """control ⇢ poller: end what waits under this job id and no box holds; answers what was done, "" if nothing."""

    job_id: str
    reply: Reply[str]


class StopFetching(msgspec.Struct, frozen=True):
    """
    sources, app ⇢ poller, sources: fetch no more; what runs is settled still. Idempotent.
    ``cancel`` ends what runs, too, as if its user had asked for it.
    """

    cancel: bool = False


# To logs


class Reported(msgspec.Struct, frozen=True):
    """
    outputs, logs ⇢ logs: receipt stored: send what is left and, where it is the last attempt, the end. One an attempt.
    ``at`` is when that stood in the journal, so that who is told again is told the same; ``after_s`` later there is
    another attempt, where it is not the last.
    """

    claim: ClaimedJob
    reason: EndReason
    exit_code: int | None
    message: str
    last: bool
    at: float
    after_s: float = 0.0


# To sources


class SourcesAsked(msgspec.Struct, frozen=True):
    """control ⇢ sources: the table of ``runner sources``."""

    reply: Reply[tuple[SourceRow, ...]]


class QueueStateTold(msgspec.Struct, frozen=True):
    """
    poller ⇢ sources: how its queue is (``polling``, ``backing off: reason``), and its depth where known. Latest wins.
    ``warning``: what a person should know of how the queue is served.
    """

    source: str
    queue: str
    state: str
    depth: int | None = None
    warning: str = ""


class QueueClosed(msgspec.Struct, frozen=True):
    """poller ⇢ sources: told to stop; all is settled and told to the end, or another poller of the queue has it now."""

    source: str
    queue: str
    taken_over: bool = False
