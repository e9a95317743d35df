"""The inputs of jobs: fetched once, pinned while in use, placed into workspaces."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary

import msgspec

from actors.cache.fetching import Fetcher
from runner.directory import Directory
from runner.errors import Refused
from runner.job import Input
from runner.ports import Blob, Stat, World
from runner.receipt import InputAccount
from runner.records import ClaimedJob
from runner.trail import Trail
from runner.units import format_size


class OverBudget(Refused):
    """The inputs alone are larger than the disk that the job was granted."""


class Inputs:
    """The store of inputs, and the hands that fill workspaces from it."""

    def __init__(self, world: World, directory: Directory, fetcher: Fetcher, trail: Trail) -> None:
        """Begin with nothing pinned."""
        self._world, self._directory, self._fetcher, self._trail = world, directory, fetcher, trail
        # One fill per object at a time; whoever comes second waits for the first.
        self._fills: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        # Digests in use by a staging job; eviction leaves them alone.
        self._pins: Counter[str] = Counter()

    async def place_all(self, claim: ClaimedJob, workspace: str, disk: int) -> tuple[InputAccount, ...]:
        """
        Place a job's inputs into its workspace, for which ``disk`` bytes were granted.

        Raises:
            OverBudget: they take more than that.
            RunnerError: one of them cannot be had.
        """
        inputs: list[InputAccount] = []
        for item in claim.job.inputs:
            placed = sum(account.bytes for account in inputs)
            inputs.append(await self._input(claim, workspace, item, (placed, disk)))
        if inputs:
            measure = lambda: self._world.workspaces.used_bytes(workspace)  # noqa: E731 - one call, named
            _check_budget(await self._fetcher.fetch(measure, "size of the workspace"), disk)
        return tuple(inputs)

    async def evict(self, limit_bytes: int) -> None:
        """Let go of what nobody uses, least recently used first, until the store has at most so many bytes."""
        await self._world.blobs.evict(limit_bytes, frozenset(self._pins))

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
        told = f"input {item.path}: {format_size(blob.size)}{' from the cache' if cached else ''}"
        await self._trail.say(claim, told)
        return msgspec.structs.replace(account, url=item.url, cached=cached)

    async def _put_in(self, workspace: str, item: Input, source: str | None) -> InputAccount:
        """
        Place one input. Not tried twice: half of it may stand there already, and the whole job is staged anew then.
        """
        return await self._fetcher.once(
            lambda: self._world.workspaces.place(workspace, item, source), f"input {item.path}"
        )

    async def _upload(self, claim: ClaimedJob, url: str) -> Blob:
        path = self._world.blobs.new_file()
        get = lambda: self._directory.get_upload(claim.queue, url, path)  # noqa: E731 - one call, named
        await self._fetcher.fetch(get, f"input {url}", transfer=True)
        digest = url.rpartition("/")[2]
        return await self._fetcher.fetch(
            lambda: self._world.blobs.add(path, url=url, version=digest, scope=claim.source), f"input {url}"
        )

    async def _blob(self, claim: ClaimedJob, url: str, budget: tuple[int, int] | None) -> tuple[Blob, bool]:
        """
        Return the object from the cache, filling it where needed; the second one to ask waits for the first.

        Nothing is fetched that is known to exceed the budget as it is; None: what it unpacks to counts.
        """
        store = self._world.open_store(url, claim.rights)
        try:
            stat = await self._fetcher.fetch(lambda: store.head(url), f"input {url}")
            if budget is not None:
                _check_budget(budget[0] + stat.size, budget[1])
            async with self._filling(f"{claim.source}\0{url}"):
                find = lambda: self._world.blobs.find(url, stat.version, claim.source)  # noqa: E731 - one call, named
                found = await self._fetcher.fetch(find, f"cache of {url}")
                return (found, True) if found else (await self._fill(claim, url, store.get), False)
        finally:
            await store.close()

    def _filling(self, name: str) -> asyncio.Lock:
        lock = self._fills.get(name)
        if lock is None:
            lock = self._fills[name] = asyncio.Lock()
        return lock

    async def _fill(self, claim: ClaimedJob, url: str, get: Callable[[str, str], Awaitable[Stat]]) -> Blob:
        path = self._world.blobs.new_file()
        stat = await self._fetcher.fetch(lambda: get(url, path), f"input {url}", transfer=True)
        add = lambda: self._world.blobs.add(path, url=url, version=stat.version, scope=claim.source)  # noqa: E731 - one call, named
        return await self._fetcher.fetch(add, f"cache of {url}")

    @contextmanager
    def _pinned(self, digest: str) -> Iterator[None]:
        self._pins[digest] += 1
        try:
            yield
        finally:
            self._pins[digest] -= 1
            if not self._pins[digest]:
                del self._pins[digest]


def _check_budget(used: int, disk: int) -> None:
    if used > disk:
        raise OverBudget(f"its inputs take {format_size(used)}, {format_size(disk)} of disk was granted")
