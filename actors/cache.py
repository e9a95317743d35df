"""
Inputs and images: filled once, pinned while in use, placed into workspaces. Never starts a job.

A job stands here from its disk grant until its workspace is complete.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, TypeVar, assert_never
from weakref import WeakValueDictionary

import msgspec

from runner.calls import Patience
from runner.directory import Directory
from runner.errors import OutOfSpace, Refused, Unavailable
from runner.job import EndReason, Input, Key
from runner.kernel import Ref
from runner.messages import Ended, JobAdopted, Placed, QuietChanged, Staged, StopJob
from runner.ports import Blob, Stat, World
from runner.receipt import InputAccount
from runner.records import ClaimedJob, StagedJob, StageRecord
from runner.stage import FaultBudget, Stage, stopped_reason
from runner.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.config import Config

T = TypeVar("T")
logger = logging.getLogger(__name__)

EVICT_EVERY_S = 60.0
FETCH_PATIENCE_S = 300.0


class _ImageRefused(Refused):
    """There is no such image, or this box may not have it."""


class _ImageUnavailable(Unavailable):
    """The registry or the runtime did not answer."""


class _OverBudget(Refused):
    """The inputs alone are larger than the disk that the job was granted."""


class _JobFailed(msgspec.Struct, frozen=True):
    """Self: a job's own task failed."""

    claim: ClaimedJob
    error: Exception


CacheMessage = Placed | StopJob | JobAdopted | QuietChanged | _JobFailed


class Cache(Stage[CacheMessage]):
    """The store of inputs, and the hands that fill workspaces from it."""

    name = "cache"

    def __init__(
        self,
        config: Config,
        world: World,
        faults: FaultBudget,
        *,
        executor: Ref[Staged],
        outputs: Ref[Ended],
        directory: Directory,
    ) -> None:
        super().__init__(config, world, faults)
        self._executor, self._outputs, self._directory = executor, outputs, directory
        # Jobs that are being staged; a stop ends those, and only those.
        self._staging: dict[Key, ClaimedJob] = {}
        # One fill per object at a time; whoever comes second waits for the first.
        self._fills: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        # Digests in use by a staging job; eviction leaves them alone.
        self._pins: Counter[str] = Counter()

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Evict in the background, also at start: an over-full cache heals."""
        evict = lambda: self._evict(int(self.config.cache_size))  # noqa: E731 - one call, named
        self.start_soon(self.regularly, evict, EVICT_EVERY_S, "eviction", name="evict")
        yield

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
            case QuietChanged():
                pass
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

    # Staging one job

    async def _stage(self, claim: ClaimedJob, disk: int) -> None:
        """Complete the workspace, or end the job with the reason that is true."""
        try:
            staged = await self._fill_workspace(claim, disk)
            await self.trail.record(claim.key, StageRecord(staged, self.world.now()))
            await self._executor.tell(Staged(claim, staged))
        except _OverBudget as error:
            await self._end(claim, EndReason.DISK_EXCEEDED, str(error))
        except Refused as error:
            image = isinstance(error, _ImageRefused)
            await self._end(claim, EndReason.IMAGE_REFUSED if image else EndReason.INPUT_REFUSED, str(error))
        except OutOfSpace as error:
            await self._end(claim, EndReason.DISK_FULL, str(error))
        except Unavailable as error:
            image = isinstance(error, _ImageUnavailable)
            await self._end(claim, EndReason.IMAGE_UNAVAILABLE if image else EndReason.INPUT_UNAVAILABLE, str(error))
        self._staging.pop(claim.key, None)

    async def _end(self, claim: ClaimedJob, reason: EndReason, message: str) -> None:
        await self._outputs.tell(Ended(claim, reason, message))

    async def _fill_workspace(self, claim: ClaimedJob, disk: int) -> StagedJob:
        await self.trail.tell_state(claim, "staging")
        digest = await self._image(claim) if claim.runtime == "container" else ""
        workspace = await self._try(
            lambda: self.world.workspaces.create(claim.key, claim.attempt), f"workspace of {claim.key}"
        )
        inputs: list[InputAccount] = []
        for item in claim.job.inputs:
            placed = sum(account.bytes for account in inputs)
            inputs.append(await self._input(claim, workspace, item, (placed, disk)))
        if inputs:
            used = await self._try(lambda: self.world.workspaces.used_bytes(workspace), "size of the workspace")
            _check_budget(used, disk)
        return StagedJob(workspace, claim.job.image, digest, tuple(inputs))

    async def _input(self, claim: ClaimedJob, workspace: str, item: Input, budget: tuple[int, int]) -> InputAccount:
        """Place one input into a workspace; ``budget``: bytes that others took, of how many."""
        if item.text is not None:
            return await self._put_in(workspace, item, None)
        if item.url.startswith("upload:"):
            blob = await self._upload(claim, item.url)
            with self._pinned(blob.digest):
                return await self._put_in(workspace, item, blob.path)
        blob, cached = await self._blob(claim, item.url, None if item.unpack else budget)
        with self._pinned(blob.digest):
            account = await self._put_in(workspace, item, blob.path)
        await self.trail.say(claim, f"input {item.path}: {format_size(blob.size)}{' from the cache' if cached else ''}")
        return msgspec.structs.replace(account, url=item.url, cached=cached)

    async def _put_in(self, workspace: str, item: Input, source: str | None) -> InputAccount:
        """
        Place one input. Not tried twice: half of it may stand there already, and the whole job is staged anew then.
        """
        place = lambda: self.world.workspaces.place(workspace, item, source)  # noqa: E731 - one call, named
        limit = float(self.config.transfer_timeout)
        return await self.caller.once(lambda: self._making_room(place), f"input {item.path}", try_s=limit)

    async def _upload(self, claim: ClaimedJob, url: str) -> Blob:
        path = self.world.blobs.new_file()
        await self._try(lambda: self._directory.get_upload(claim.queue, url, path), f"input {url}", transfer=True)
        digest = url.rpartition("/")[2]
        return await self._try(
            lambda: self.world.blobs.add(path, url=url, version=digest, scope=claim.source), f"input {url}"
        )

    async def _blob(self, claim: ClaimedJob, url: str, budget: tuple[int, int] | None) -> tuple[Blob, bool]:
        """
        Return the object from the cache, filling it where needed; the second one to ask waits for the first.

        Nothing is fetched that is known to exceed the budget as it is; None: what it unpacks to counts.
        """
        store = self.world.open_store(url, claim.rights)
        try:
            stat = await self._try(lambda: store.head(url), f"input {url}")
            if budget is not None:
                _check_budget(budget[0] + stat.size, budget[1])
            async with self._filling(f"{claim.source}\0{url}"):
                found = await self._try(
                    lambda: self.world.blobs.find(url, stat.version, claim.source), f"cache of {url}"
                )
                return (found, True) if found else (await self._fill(claim, url, store.get), False)
        finally:
            await store.close()

    def _filling(self, name: str) -> asyncio.Lock:
        lock = self._fills.get(name)
        if lock is None:
            lock = self._fills[name] = asyncio.Lock()
        return lock

    async def _fill(self, claim: ClaimedJob, url: str, get: Callable[[str, str], Awaitable[Stat]]) -> Blob:
        path = self.world.blobs.new_file()
        stat = await self._try(lambda: get(url, path), f"input {url}", transfer=True)
        return await self._try(
            lambda: self.world.blobs.add(path, url=url, version=stat.version, scope=claim.source), f"cache of {url}"
        )

    async def _try(self, call: Callable[[], Awaitable[T]], what: str, *, transfer: bool = False) -> T:
        """Call a port with this stage's patience: a few minutes, then it is the box's fault and another one tries."""
        limit = float(self.config.transfer_timeout if transfer else self.config.port_timeout)
        patience = Patience(try_s=limit, all_s=FETCH_PATIENCE_S)
        return await self.caller.until_done(lambda: self._making_room(call), what, patience)

    async def _making_room(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call a port; where the disk is full, what nobody uses now gives way to the next try."""
        try:
            return await call()
        except OutOfSpace:
            await self._evict(0)
            raise

    @contextmanager
    def _pinned(self, digest: str) -> Iterator[None]:
        self._pins[digest] += 1
        try:
            yield
        finally:
            self._pins[digest] -= 1
            if not self._pins[digest]:
                del self._pins[digest]

    # Images

    async def _image(self, claim: ClaimedJob) -> str:
        """Return the digest of the job's image, pulling it where it is not here; errors say that it was the image."""
        name = claim.job.image
        try:
            return await self._resolve_or_pull(claim, name)
        except Refused as error:
            raise _ImageRefused(str(error)) from error
        except Unavailable as error:
            raise _ImageUnavailable(str(error)) from error

    async def _resolve_or_pull(self, claim: ClaimedJob, name: str) -> str:
        images = self.world.images
        if images is None:
            raise Unavailable("this box has no container runtime; `runner doctor` says why")
        digest = await self._try(lambda: images.resolve(name), f"image {name}")
        if digest is not None:
            return digest
        await self.trail.say(claim, f"pulling {name}")
        return await self._try(lambda: images.pull(name, _ignore), f"image {name}", transfer=True)

    # Keeping it small

    async def _evict(self, limit_bytes: int) -> None:
        await self.world.blobs.evict(limit_bytes, frozenset(self._pins))


def _check_budget(used: int, disk: int) -> None:
    if used > disk:
        raise _OverBudget(f"its inputs take {format_size(used)}, {format_size(disk)} of disk was granted")


def _ignore(_line: str) -> None:
    """Progress of a pull goes nowhere yet."""
