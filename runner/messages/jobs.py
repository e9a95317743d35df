"""
The messages that carry one job round the ring, in the order in which it meets them; then those that end or adopt it.
"""

from __future__ import annotations

import msgspec

from runner.job import EndReason, Key
from runner.records import ClaimedJob, Grant, JournalEntry, Outcome, StagedJob


class Offered(msgspec.Struct, frozen=True):
    """
    poller → inventory: claimed, journaled, decoded. One a delivery, and a crash; uses up the queue's credit.

    ``ahead``: it was fetched to be staged while others run.
    """

    claim: ClaimedJob
    ahead: bool = False


class Placed(msgspec.Struct, frozen=True):
    """inventory → cache: this box will run it; ``disk`` bytes are granted. One an attempt."""

    claim: ClaimedJob
    disk: int


class Granted(msgspec.Struct, frozen=True):
    """inventory ⇢ executor: its GPUs, cores and memory. One an attempt."""

    claim: ClaimedJob
    grant: Grant


class RestChanged(msgspec.Struct, frozen=True):
    """cache, outputs ⇢ inventory: it is staged, or waits for its broker, and does nothing here; or goes on."""

    key: Key
    claimed_at: float
    rests: bool = True


class Staged(msgspec.Struct, frozen=True):
    """cache → executor: workspace and image digest. One an attempt."""

    claim: ClaimedJob
    staged: StagedJob


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


class Released(msgspec.Struct, frozen=True):
    """
    executor ⇢ inventory (``compute``: GPUs, cores, memory); outputs ⇢ inventory (``all``: the rest). Idempotent.

    ``unused`` is the compute of a job that never ran, given back by outputs before what it left is stored.
    ``claimed_at`` says which claim's: a later one of the same job may hold something already.
    """

    key: Key
    part: str
    claimed_at: float


class LeaseCheck(msgspec.Struct, frozen=True):
    """outputs ⇢ poller: renew this claim now; nothing is stored before the answer. One an attempt stands at most."""

    key: Key


class LeaseChecked(msgspec.Struct, frozen=True):
    """poller ⇢ outputs: the answer to ``LeaseCheck``: the claim is still ours, or another box has it."""

    key: Key
    held: bool


class Settled(msgspec.Struct, frozen=True):
    """outputs ⇢ poller: the verdict stands in the journal; carry it out. One a delivery, idempotent."""

    key: Key


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


class JobAdopted(msgspec.Struct, frozen=True):
    """
    app ⇢ inventory, cache, executor, outputs: at start, a journaled job re-enters at its own stage, before any credit.

    inventory restores its grant, the stage that the entry stands at goes on with it; the others ignore it.
    """

    entry: JournalEntry
