"""A job on its way out, and the receipt and verdict that follow from how it ended. Pure."""

from __future__ import annotations

import hashlib

import msgspec

from runner import __version__
from runner.job import ENDINGS, Decision, EndReason, Output, PastAttempt, Verdict, Whose, decide
from runner.ports import SpoolSeal
from runner.receipt import GrantAccount, ImageAccount, LogAccount, OutputAccount, Receipt, RunnerAccount
from runner.records import ClaimedJob, Grant, Outcome, StagedJob

STOP_SHARE, STORE_SHARE = 1 / 4, 7 / 8
"""Of ``preempt_grace``: by then a job that is preempted is gone, and what could be stored of it is stored; in what is
left its message is given back."""

REASON_MAX_CHARACTERS = 500
"""A note travels with its message, where services give it little room."""

WITHDRAWN = "withdrawn from its queue, where it waited"
"""Said of a job that was cancelled before any box had it."""

GIVEN_BACK = "given back to the queue"
"""Begins what is told of a job that a box had and did not try."""


class Leaving(msgspec.Struct, frozen=True):
    """
    How a job ended, and what it had.

    ``release_after_s`` gives its message back untried after so many seconds; ``refused_here`` notes that this box can
    never run it; ``over_cap`` that its user has enough running, which the note does not count.
    """

    claim: ClaimedJob
    outcome: Outcome
    staged: StagedJob | None = None
    grant: Grant | None = None
    release_after_s: float | None = None
    refused_here: bool = False
    over_cap: bool = False
    store_by: float | None = None
    """Loop seconds: what is not stored by then is given up, for the runner must end; None: there is time."""

    def failing(self, reason: EndReason, message: str) -> Leaving:
        """Return the same job with another end."""
        outcome = msgspec.structs.replace(self.outcome, reason=reason, message=message)
        return msgspec.structs.replace(self, outcome=outcome)

    @property
    def workspace_kept(self) -> bool:
        """Whether its owner may want to look at the workspace: the job itself failed."""
        return ENDINGS[self.outcome.reason].whose is Whose.JOB


def release_of(leaving: Leaving, box: str) -> tuple[Receipt, Decision]:
    """Return what stands for a message that is given back: nothing is burnt, the note counts it but for a cap."""
    claim, note = leaving.claim, leaving.claim.note
    refused_by = {*note.refused_by, box} if leaving.refused_here else set(note.refused_by)
    reason = leaving.outcome.message
    releases = note.releases + (not leaving.over_cap)
    note = msgspec.structs.replace(note, releases=releases, refused_by=tuple(sorted(refused_by)), last_reason=reason)
    receipt = Receipt(claim.id, queue=claim.queue_name, state="waiting", message=reason, key=claim.key)
    return receipt, Decision(Verdict.RELEASE, leaving.release_after_s or 0.0, note)


def lost_receipt(claim: ClaimedJob, box: str) -> Receipt:
    """Return what stands for a job that another box has; it is stored nowhere but in this box's journal."""
    return Receipt(
        claim.id, queue=claim.queue_name, state="lost", end_reason=EndReason.LEASE_LOST.value, box=box, key=claim.key
    )


def grant_account(grant: Grant | None) -> GrantAccount:
    """Return what a receipt tells of a grant, or of none."""
    if grant is None:
        return GrantAccount()
    here = grant.here
    return GrantAccount(tuple(gpu.uuid for gpu in here.gpus), here.cores, here.memory, here.cpus)


def receipt_of(
    leaving: Leaving, outputs: tuple[OutputAccount, ...], log: LogAccount, *, box: str, now: float
) -> tuple[Receipt, Decision | None]:
    """Write the receipt of an attempt that ended, and decide what becomes of its message."""
    claim, outcome, staged = leaving.claim, leaving.outcome, leaving.staged
    decision = _decision(leaving, box, now)
    grant = grant_account(leaving.grant)
    receipt = Receipt(
        id=claim.id,
        name=claim.job.name,
        user=claim.job.user,
        queue=claim.queue_name,
        state="waiting" if decision is not None and decision.verdict is Verdict.RETRY else "ended",
        end_reason=outcome.reason.value,
        exit_code=outcome.exit_code,
        attempt=claim.attempt,
        submitted_at=claim.submitted_at,
        started_at=outcome.started_at,
        ended_at=outcome.ended_at or now,
        gpus=grant.gpus,
        box=box,
        key=claim.key,
        message=outcome.message,
        verdict=decision.verdict.value if decision else None,
        attempts=decision.note.history if decision else claim.note.history,
        stages=_stages(leaving, now),
        grant=grant,
        isolation=outcome.isolation,
        usage=outcome.usage,
        steps=outcome.steps,
        inputs=staged.inputs if staged else (),
        outputs=outputs,
        log=log,
        image=ImageAccount(staged.image, staged.image_digest) if staged and staged.image else None,
        runner=RunnerAccount(__version__, box),
    )
    return receipt, decision


def decision_of(stored: Receipt, claim: ClaimedJob) -> Decision | None:
    """Return what follows from a receipt that stands already, whoever wrote it: the same as when it was written."""
    seconds = stored.stages.get("running", 0.0)
    past = PastAttempt(stored.box, stored.end_reason or "", seconds)
    reason = EndReason(stored.end_reason or EndReason.RUNNER_FAULT)
    return decide(reason, claim.note, claim.job.retries, past, jitter=_jitter(claim))


def log_account(seal: SpoolSeal, url: str) -> LogAccount:
    """Account for an attempt's log."""
    return LogAccount(seal.lines, seal.bytes, seal.sha256, seal.gaps, url)


def _decision(leaving: Leaving, box: str, now: float) -> Decision | None:
    outcome, note = leaving.outcome, leaving.claim.note
    ended = outcome.ended_at or now
    began = outcome.started_at if outcome.started_at is not None else ended
    if outcome.started_at is not None:
        note = msgspec.structs.replace(note, starts=note.starts + 1)
    past = PastAttempt(box, outcome.reason.value, round(max(0.0, ended - began), 3))
    decision = decide(outcome.reason, note, leaving.claim.job.retries, past, jitter=_jitter(leaving.claim))
    return _explained(decision, outcome) if decision else None


def _jitter(claim: ClaimedJob) -> float:
    """Spread the retries of jobs that failed together; by the attempt, so that every box decides the same."""
    digest = hashlib.sha256(f"{claim.key}.{claim.attempt}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _explained(decision: Decision, outcome: Outcome) -> Decision:
    """Let the note, and so the dead letter, say in a sentence what the end reason says in a word."""
    if outcome.message in {"", outcome.reason.value}:
        return decision
    said = f"{outcome.reason.value}: {outcome.message}"[:REASON_MAX_CHARACTERS]
    return msgspec.structs.replace(decision, note=msgspec.structs.replace(decision.note, last_reason=said))


def _stages(leaving: Leaving, now: float) -> dict[str, float]:
    """Return seconds: in the queue until claimed, then until the start, running, storing."""
    claim, outcome = leaving.claim, leaving.outcome
    ended = outcome.ended_at or now
    queued = max(0.0, claim.claimed_at - claim.submitted_at)
    if outcome.started_at is None:
        return {"queued": round(queued, 3), "waiting": round(max(0.0, ended - claim.claimed_at), 3)}
    return {
        "queued": round(queued, 3),
        "waiting": round(max(0.0, outcome.started_at - claim.claimed_at), 3),
        "running": round(max(0.0, ended - outcome.started_at), 3),
        "storing": round(max(0.0, now - ended), 3),
    }


def url_of(output: Output, job_id: str, name: str) -> str:
    """
    Return where a file goes: below the url by the job's id, or at the exact key below it.

    ``name`` is as ``CollectedFile`` gives it. The files of an unpacked directory keep their places below the key.
    """
    base = output.url.rstrip("/")
    if not output.key:
        return f"{base}/{job_id}/{name}"
    inside = name.partition("/")[2]
    key = output.key.replace("{id}", job_id)
    return f"{base}/{key.rstrip('/')}/{inside}" if inside else f"{base}/{key}"
