"""What the journal knows of a job, in the shapes that commands print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.leaving import grant_account
from runner.receipt import Isolation, JobRow, Receipt, Usage, Why

if TYPE_CHECKING:
    from runner.records import ClaimedJob, JournalEntry

DOING = {
    "waiting": "waits on this box for what it asked for",
    "staging": "its image and inputs are being fetched; its log says how far an image is",
    "running": "it runs",
    "storing": "it ended; its outputs and its receipt are being stored",
}


def row_of(entry: JournalEntry, box: str = "") -> JobRow:
    """Return the line of ``ps`` for an entry."""
    if entry.stored is not None:
        receipt = entry.stored.receipt
        return JobRow(**{name: getattr(receipt, name) for name in JobRow.__struct_fields__})
    claim, outcome = entry.claimed.claim, entry.exited.outcome if entry.exited else None
    return JobRow(
        id=claim.id,
        name=claim.job.name,
        user=claim.job.user,
        queue=claim.queue_name,
        state=entry.state,
        exit_code=outcome.exit_code if outcome else None,
        attempt=claim.attempt,
        submitted_at=claim.submitted_at or None,
        started_at=_started_at(entry),
        gpus=tuple(gpu.uuid for gpu in entry.granted.grant.here.gpus) if entry.granted else (),
        box=box,
    )


def _started_at(entry: JournalEntry) -> float | None:
    if entry.exited is not None and entry.exited.outcome.started_at is not None:
        return entry.exited.outcome.started_at
    return entry.starting.at if entry.starting else None


def receipt_of(entry: JournalEntry, box: str = "") -> Receipt:
    """Return the receipt of an entry; while the job is in hand, what is known of it so far."""
    if entry.stored is not None:
        return entry.stored.receipt
    row, outcome = row_of(entry, box), entry.exited.outcome if entry.exited else None
    return Receipt(
        **{name: getattr(row, name) for name in JobRow.__struct_fields__},
        key=entry.key,
        message=why_of(entry).sentence,
        attempts=entry.claimed.claim.note.history,
        grant=grant_account(entry.granted.grant if entry.granted else None),
        isolation=outcome.isolation if outcome else Isolation(),
        usage=outcome.usage if outcome else Usage(),
        steps=outcome.steps if outcome else (),
        inputs=entry.staged.staged.inputs if entry.staged else (),
        outputs=entry.uploaded.outputs if entry.uploaded else (),
    )


def why_of(entry: JournalEntry) -> Why:
    """Say in one sentence what a job waits for, what is done with it, or how it ended."""
    job_id, state = entry.claimed.claim.id, entry.state
    if entry.stored is not None:
        return _why_stored(entry)
    if state == "waiting" and entry.waiting is not None:
        return Why(job_id, state, entry.waiting.sentence, entry.waiting.at)
    return Why(job_id, state, DOING[state] + _attempt(entry.claimed.claim), _since(entry))


def _attempt(claim: ClaimedJob) -> str:
    """Say which attempt is made, where it is not the first, and how the one before ended."""
    history = claim.note.history
    return f"; attempt {claim.attempt}, the one before ended as {history[-1].reason}" if history else ""


def last_attempt(receipt: Receipt) -> str:
    """Say how the attempt of a receipt ended, where the job goes on."""
    return f"; attempt {receipt.attempt} ended as {ending(receipt)}" if receipt.end_reason else ""


def _why_stored(entry: JournalEntry) -> Why:
    receipt, at = entry.stored.receipt, entry.stored.at  # type: ignore[union-attr]  # asked by the caller
    return Why(receipt.id, receipt.state, ending(receipt), receipt.ended_at or at)


def ending(receipt: Receipt) -> str:
    """Return the end reason and the sentence, or one of them where they say the same."""
    how = receipt.end_reason or receipt.state
    return f"{how}: {receipt.message}" if receipt.message not in {"", how} else how


def _since(entry: JournalEntry) -> float:
    steps = (entry.exited, entry.starting, entry.granted, entry.staged, entry.placed, entry.claimed)
    return next(step.at for step in steps if step is not None)
