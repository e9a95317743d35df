"""A delivery as a job: decoded, named, numbered, with a runtime that its queue allows; new, known or too late. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from runner.credential import Rights
from runner.job import EndReason, Job, Verdict, make_key
from runner.policy import problem_with
from runner.ports import Decoded, Delivery, Dialect
from runner.records import ClaimedJob, JournalEntry

AHEAD_MAX_S = 86_400.0
"""The clocks of two boxes do not differ by more."""


@dataclass(frozen=True)
class Intake:
    """What one queue's deliveries are read with."""

    dialect: Dialect
    rights: Rights
    source: str
    queue: str
    queue_name: str
    default_image: str
    release_costs: bool = False

    def claim(self, delivery: Delivery, now: float) -> ClaimedJob:
        """Return the job."""
        decoded = self._with_runtime(self.dialect.decode(delivery.body))
        job = decoded.job if decoded.job.id else msgspec.structs.replace(decoded.job, id=delivery.submission)
        return ClaimedJob(
            key=make_key(self.queue, job.id, delivery.submission),
            job=job,
            queue=self.queue,
            queue_name=self.queue_name,
            source=self.source,
            attempt=delivery.note.attempt,
            note=delivery.note,
            submitted_at=plausible(delivery.enqueued_at, now),
            claimed_at=now,
            rights=self.rights,
            runtime=self._runtime(job),
            problem=decoded.problem or self._forbidden(job),
            user="" if delivery.anonymous else job.user,
            release_costs=self.release_costs,
        )

    def _forbidden(self, job: Job) -> str:
        return problem_with(job, self.rights, runtime=self._runtime(job), source=self.source)

    def _runtime(self, job: Job) -> str:
        in_image = job.image or job.build is not None
        return "process" if self.rights.runtime == "process" and not in_image else "container"

    def _with_runtime(self, decoded: Decoded) -> Decoded:
        """Give a job without an image the box's default one, where its queue may not run processes."""
        job = decoded.job
        if decoded.problem or job.image or job.build is not None or self.rights.runtime == "process":
            return decoded
        if self.default_image:
            return Decoded(msgspec.structs.replace(job, image=self.default_image))
        allow = f'runtime = "process" into {self.source}'
        return Decoded(job, f"image: missing, and this queue may not run processes: name an image, or write {allow}")


def ended_as(reason: EndReason, text: str, claim: ClaimedJob) -> ClaimedJob:
    """Return a claim that is not to run."""
    return msgspec.structs.replace(claim, problem=text, ends_as=reason)


def plausible(submitted_at: float, now: float) -> float:
    """Return when a message was submitted, as its sender says, where that can be; else now."""
    return submitted_at if 0.0 <= submitted_at <= now + AHEAD_MAX_S else now


def is_expired(claim: ClaimedJob, now: float) -> bool:
    """Tell whether a job is older than it says it may become."""
    return claim.job.expires is not None and now > claim.submitted_at + claim.job.expires


def is_known(entry: JournalEntry, claim: ClaimedJob, token: str) -> bool:
    """Tell whether the journal has this very attempt: it runs, or its verdict stands."""
    if claim.attempt > entry.claimed.claim.attempt or is_lost(entry):
        return False
    if entry.stored is None:
        return entry.settled is None
    decision = entry.stored.decision
    released = decision is not None and decision.verdict is Verdict.RELEASE
    return not (entry.settled is not None and released and token != entry.claimed.token)


def is_lost(entry: JournalEntry) -> bool:
    """Tell whether the claim behind an entry was lost: what is delivered after that begins afresh."""
    return entry.stored is not None and entry.stored.decision is None
