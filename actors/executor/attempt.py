"""One running attempt of a job, as the executor sees it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from actors.executor.log_room import LogRoom
from runner.environment import passed_on
from runner.errors import ImageGone, OutOfSpace, RunnerError
from runner.job import EndReason
from runner.ports import ContainerSpec
from runner.receipt import Isolation
from runner.records import ClaimedJob, Grant, StagedJob


class StoppedEarly(RunnerError):
    """It was to be stopped before it began."""

    code = "stopped_early"


@dataclass
class Attempt:
    """A job that runs."""

    claim: ClaimedJob
    staged: StagedJob
    grant: Grant
    # Seconds of wall time from its start.
    limit_s: float
    # Seconds from SIGTERM to SIGKILL at most where it is preempted.
    preempted_in_s: float
    # Set once, by whoever ends it first: its limits, its user, the runner.
    stop: asyncio.Future[tuple[EndReason, str]]
    # Loop seconds of the last output, for ``silent_for``.
    heard_at: float
    # What it printed, and how much of that may be kept.
    log: LogRoom = field(default_factory=LogRoom)
    isolation: Isolation = field(default_factory=Isolation)
    started_at: float | None = None
    # Epoch seconds: when its own time is over, None before it is started; when the runner stops what runs, where it
    # will; what the job itself was told of both, where this life told it.
    ends_at: float | None = None
    stops_at: float | None = None
    told_at: float | None = None
    # When it started by ``World.up_s``; None where only its wall time is known.
    began_up_s: float | None = None
    # Epoch seconds of the box's own start, where it went down since the attempt began.
    booted_at: float | None = None
    # Epoch seconds when the runtime was told to stop it: what ends after that ends because of it, whatever its code.
    stopping_at: float | None = None

    @property
    def name(self) -> str:
        """The container's name, unique on the box."""
        return f"{self.claim.key}.{self.claim.attempt}"

    @property
    def deadline_at(self) -> float | None:
        """When it ends at the latest, in epoch seconds: by its own limit, or with the runner."""
        return min((at for at in (self.ends_at, self.stops_at) if at is not None), default=None)

    @property
    def stop_grace_s(self) -> float:
        """Seconds from SIGTERM to SIGKILL; whoever is preempted must leave time to store what it left."""
        own_s = float(self.claim.job.stop_grace)
        preempted = self.stop.done() and self.stop.result()[0] is EndReason.PREEMPTED
        return min(own_s, self.preempted_in_s) if preempted else own_s

    def ran_s(self, now: float, up_s: float) -> float:
        """Return how long it ran already; the wall clock is asked only where nothing else can tell."""
        if self.began_up_s is not None and self.began_up_s <= up_s:
            return up_s - self.began_up_s
        return now - (self.started_at or now)

    def end(self, reason: EndReason, message: str) -> None:
        """Ask for the end; the first reason stands."""
        if not self.stop.done():
            self.stop.set_result((reason, message))

    def spec(self, shm: int) -> ContainerSpec:
        """Say what to start; ``shm`` bytes unless the job says."""
        claim, job = self.claim, self.claim.job
        return ContainerSpec(
            name=self.name,
            key=claim.key,
            attempt=claim.attempt,
            command=job.command,
            env={**passed_on(job.env), "RUNNER_JOB_ID": claim.id, "RUNNER_ATTEMPT": str(claim.attempt)},
            workspace=self.staged.workspace,
            grant=self.grant,
            image=self.staged.image_id or self.staged.image,
            shm=shm if job.resources.shm is None else int(job.resources.shm),
            paths=claim.rights.paths,
            deadline_at=self.deadline_at,
            network=job.network,
            capabilities=job.capabilities,
            mounts=job.mounts,
            root=claim.rights.root,
            seccomp=claim.rights.seccomp,
            oci_runtime=claim.rights.oci_runtime,
            secrets=job.secrets,
            secrets_in_env=claim.rights.secrets_in_env,
            steps=job.steps,
            keep_going=job.keep_going,
            log_max=self.log.limit_bytes,
        )

    def why_not_begun(self, error: RunnerError) -> tuple[EndReason, str]:
        """Tell why it never began: whoever wanted it stopped has that, whatever else stood in its way."""
        if self.stop.done():
            return self.stop.result()
        match error:
            case OutOfSpace():
                return EndReason.DISK_FULL, str(error)
            case ImageGone():
                return EndReason.IMAGE_UNAVAILABLE, str(error)
            case _:
                return EndReason.RUNNER_FAULT, str(error)
