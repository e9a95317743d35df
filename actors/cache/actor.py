"""
Inputs and images: filled once, pinned while in use, placed into workspaces. Never starts a job.

A job stands here from its disk grant until its workspace is complete.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, assert_never

import msgspec

from actors.cache.builds import Builds, EnvironmentFailed
from actors.cache.fetching import Fetcher
from actors.cache.images import ImageRefused, ImageStore, ImageUnavailable
from actors.cache.inputs import Inputs, OverBudget
from runner.calls import COURTESY
from runner.directory import Directory
from runner.errors import OutOfSpace, Refused, RunnerError, Unavailable
from runner.job import EndReason, Key
from runner.kernel import Ref
from runner.messages import Ended, JobAdopted, Placed, PulseAsked, QuietChanged, RestChanged, Staged, StopJob
from runner.ports import World
from runner.records import ClaimedJob, StagedJob, StageRecord
from runner.stage import FaultBudget, Stage, stopped_reason

if TYPE_CHECKING:
    from runner.config import Config

logger = logging.getLogger(__name__)

EVICT_EVERY_S = 60.0


class _JobFailed(msgspec.Struct, frozen=True):
    """Self: a job's own task failed."""

    claim: ClaimedJob
    error: Exception


CacheMessage = Placed | StopJob | JobAdopted | PulseAsked | QuietChanged | _JobFailed


class Cache(Stage[CacheMessage]):
    """One task a job: its image, its workspace, its inputs."""

    name = "cache"

    def __init__(
        self,
        config: Config,
        world: World,
        faults: FaultBudget,
        *,
        executor: Ref[Staged],
        inventory: Ref[RestChanged],
        outputs: Ref[Ended],
        directory: Directory,
    ) -> None:
        super().__init__(config, world, faults)
        self._executor, self._inventory, self._outputs = executor, inventory, outputs
        self._fetcher = Fetcher(config, self.caller, lambda: self._inputs.evict(0))
        self._inputs = Inputs(world, directory, self._fetcher, self.trail)
        self._images = ImageStore(config, world, self.caller, self.trail, self)
        self._builds = Builds(config, world, self._fetcher, self.trail, self._images)
        # Jobs that are being staged; a stop ends those, and only those.
        self._staging: dict[Key, ClaimedJob] = {}

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Make room in the background, also at start: an over-full cache or disk heals."""
        evict = lambda: self._inputs.evict(int(self.config.cache_size))  # noqa: E731 - one call, named
        self.start_soon(self.regularly, evict, EVICT_EVERY_S, "eviction", name="evict")
        self.start_soon(self._collect, name="collect")
        yield

    async def _collect(self) -> None:
        """Know first what an earlier life was about to pull; then let images go now and then."""
        collection = self._images.collection
        try:
            await self.caller.until_done(collection.settle, "account of images", COURTESY)
        except RunnerError as error:
            logger.warning("account of images not settled", extra={"action": "chore", "reason": str(error)})
        await self.regularly(collection.collect, EVICT_EVERY_S, "collection of images")

    async def receive(self, message: CacheMessage) -> None:
        """Handle one message."""
        match message:
            case Placed():
                await self.blaming(message.claim.key, self._begin(message.claim, message.disk))
            case StopJob():
                await self.blaming(message.key, self._stop(message))
            case JobAdopted():
                await self.blaming(message.entry.key, self._adopt(message))
            case _JobFailed():
                self._staging.pop(message.claim.key, None)
                text = await self.failed(message.claim, message.error)
                await self._outputs.tell(Ended(message.claim, EndReason.RUNNER_FAULT, text))
            case PulseAsked():
                message.reply.answer(None)
            case QuietChanged():
                self.quiet.change(message)
            case _:
                assert_never(message)

    async def _begin(self, claim: ClaimedJob, disk: int) -> None:
        stop = self.marked(claim)
        if stop is not None:
            await self._outputs.tell(Ended(claim, *stopped_reason(stop)))
            return
        self._staging[claim.key] = claim
        name = f"stage {claim.key} {claim.attempt}"
        self.start_soon(self._stage, claim, disk, name=name, on_error=lambda error: _JobFailed(claim, error))

    async def _adopt(self, adopted: JobAdopted) -> None:
        """Stage again, from nothing, what was being staged."""
        entry = adopted.entry
        if entry.placed is not None and entry.staged is None and entry.exited is None and entry.stored is None:
            await self._begin(entry.claimed.claim, entry.placed.disk)

    async def _stop(self, stop: StopJob) -> None:
        claim = self._staging.get(stop.key)
        if claim is None or claim.attempt != stop.attempt:
            self.mark(stop)
            return
        del self._staging[stop.key]
        self.cancel_task(f"stage {claim.key} {claim.attempt}")
        await self._outputs.tell(Ended(claim, *stopped_reason(stop)))

    # Hands of its images' flights

    def start(self, work: Callable[[], Awaitable[None]], name: str) -> None:
        """Run a task under a name that is free."""
        self.start_soon(work, name=name)

    def cancel(self, name: str) -> None:
        """Cancel a task, and free its name at once."""
        self.cancel_task(name)

    # Staging one job

    async def _stage(self, claim: ClaimedJob, disk: int) -> None:
        """Complete the workspace, or end the job with the reason that is true."""
        try:
            staged = await self._fill_workspace(claim, disk)
            await self.trail.record(claim.key, StageRecord(staged, self.world.now()))
            await self._executor.tell(Staged(claim, staged))
            self._inventory.urgent(RestChanged(claim.key, claim.claimed_at))
        except (EnvironmentFailed, Refused, OutOfSpace, Unavailable) as error:
            await self._outputs.tell(Ended(claim, _reason(error), str(error)))
        finally:
            self._images.let_go(claim)
        self._staging.pop(claim.key, None)

    async def _fill_workspace(self, claim: ClaimedJob, disk: int) -> StagedJob:
        await self.trail.tell_state(claim, "staging")
        job, image = claim.job, None
        if claim.runtime == "container" and job.build is None:
            image = await self._images.obtain(claim, job.image)
        create = lambda: self.world.workspaces.create(claim.key, claim.attempt)  # noqa: E731 - one call, named
        workspace = await self._fetcher.fetch(create, f"workspace of {claim.key}")
        inputs, name = await self._inputs.place_all(claim, workspace, disk), job.image
        if job.build is not None:
            name, image = await self._builds.obtain(claim, job.build, workspace, disk)
        if image is None:
            return StagedJob(workspace, name, inputs=inputs)
        return StagedJob(workspace, name, image.digest, inputs, image.id)


def _reason(error: EnvironmentFailed | Refused | OutOfSpace | Unavailable) -> EndReason:
    match error:
        case OverBudget():
            return EndReason.DISK_EXCEEDED
        case EnvironmentFailed():
            return EndReason.ENVIRONMENT_FAILED
        case ImageRefused():
            return EndReason.IMAGE_REFUSED
        case ImageUnavailable():
            return EndReason.IMAGE_UNAVAILABLE
        case Refused():
            return EndReason.INPUT_REFUSED
        case OutOfSpace():
            return EndReason.DISK_FULL
        case Unavailable():
            return EndReason.INPUT_UNAVAILABLE
        case _:
            assert_never(error)
