"""
Images that jobs bring as a Dockerfile: built once for each content, upon images that their queue may use.

Built with the network that the queue's file names for builds, never with a GPU, one at a time.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from actors.cache.collection import LABEL_BOX
from actors.cache.fetching import Fetcher
from actors.cache.flights import Tell
from actors.cache.images import ImageRefused, ImageStore, ImageUnavailable
from runner.dockerfile import LABEL, Recipe, check_triggers, read_dockerfile
from runner.errors import BadInput, Refused, Unavailable
from runner.job import Build
from runner.policy import is_listed
from runner.ports import BuildContext, BuildOrder, Images, LocalImage, World
from runner.records import ClaimedJob
from runner.trail import Trail

if TYPE_CHECKING:
    from runner.config import Config

REPOSITORY = "runner-build"


class EnvironmentFailed(BadInput):
    """The Dockerfile cannot be built."""


class Builds:
    """Builds what a workspace holds."""

    def __init__(self, config: Config, world: World, fetcher: Fetcher, trail: Trail, store: ImageStore) -> None:
        """Begin with nothing under way."""
        self._config, self._world, self._fetcher, self._trail = config, world, fetcher, trail
        self._store = store
        # Builds take memory and processors that no grant counts.
        self._turn = asyncio.Semaphore(1)
        # By the name of what is built from it, the context of each job that waits for that; all have the same content.
        self._contexts: dict[str, list[str]] = {}

    async def obtain(self, claim: ClaimedJob, build: Build, workspace: str, disk: int) -> tuple[str, LocalImage]:
        """
        Return the image of a job's Dockerfile and its name, built where it is not here, pushed where the job says so.

        Raises:
            EnvironmentFailed: the Dockerfile cannot be built, or may not.
            ImageRefused, ImageUnavailable: an image that it needs cannot be had, or the result cannot be pushed.
        """
        try:
            dockerfile = "/".join(part for part in build.dockerfile.split("/") if part not in ("", "."))
            context = await self._packed(claim, build, dockerfile, (workspace, disk))
            name, image = await self._built(claim, dockerfile, context)
            await self._fetcher.fetch(lambda: self._world.workspaces.drop_context(workspace), "what was built")
        except (ImageRefused, ImageUnavailable):
            raise
        except Refused as error:
            raise EnvironmentFailed(str(error)) from error
        except Unavailable as error:
            raise ImageUnavailable(str(error)) from error
        if not build.push:
            return name, image
        return build.push, await self._store.push(claim, image, build.push)

    async def _packed(self, claim: ClaimedJob, build: Build, dockerfile: str, place: tuple[str, int]) -> BuildContext:
        """Return what to build; ``place`` is the workspace and the bytes that it may take."""
        workspaces, (workspace, limit_bytes) = self._world.workspaces, place
        path = f"{build.path}/{dockerfile}"
        text = await self._fetcher.fetch(lambda: workspaces.read_text(workspace, path), "build.dockerfile")
        recipe = read_dockerfile(text)
        written = recipe.written(await self._bases(claim, recipe), self._labels(claim))
        pack = lambda: workspaces.pack_context(  # noqa: E731 - one call, named
            workspace, build.path, dockerfile=(dockerfile, written), limit_bytes=limit_bytes
        )
        context = await self._fetcher.fetch(pack, "build.path", transfer=True)
        if context.left_out:
            await self._trail.say(claim, f"build: {context.left_out} links and special files are left out")
        return context

    async def _bases(self, claim: ClaimedJob, recipe: Recipe) -> dict[str, str]:
        """Have all images that the Dockerfile names, and return their ids."""
        ids = dict[str, str]()
        for name in recipe.images:
            if not is_listed(name, claim.rights.images):
                allowed = ", ".join(claim.rights.images)
                raise Refused(f"image {name} of the Dockerfile: not one that {claim.source} allows: {allowed}")
            image = await self._store.obtain(claim, name)
            check_triggers(name, image.on_build)
            await self._trail.say(claim, f"build: {name} is {image.digest}")
            ids[name] = image.id
        return ids

    def _labels(self, claim: ClaimedJob) -> dict[str, str]:
        """
        Name whose build it is, and with what network: others have other results, even of the same text.
        """
        said = f"{claim.source}\0{claim.rights.build_network}"
        return {LABEL: hashlib.sha256(said.encode()).hexdigest()[:32], LABEL_BOX: self._world.box.id}

    async def _built(self, claim: ClaimedJob, dockerfile: str, context: BuildContext) -> tuple[str, LocalImage]:
        wanted, name = claim.job.resources, f"{REPOSITORY}:{context.digest.removeprefix('sha256:')}"
        order = BuildOrder(
            context="",
            dockerfile=dockerfile,
            name=name,
            network=claim.rights.build_network,
            memory=int(self._config.job_memory if wanted.memory is None else wanted.memory),
            cpus=min(wanted.cpus, len(self._world.box.cores)),
        )
        work = lambda tell: self._in_turn(order, tell)  # noqa: E731 - one call, named
        with self._offered(name, context.local):
            return name, await self._store.fill(claim, name, work, begins=f"building {dockerfile}")

    @contextmanager
    def _offered(self, name: str, context: str) -> Iterator[None]:
        """Let a build read this context for as long as its job waits: the job that began it may be gone by then."""
        contexts = self._contexts.setdefault(name, [])
        contexts.append(context)
        try:
            yield
        finally:
            contexts.remove(context)
            if not contexts:
                del self._contexts[name]

    async def _in_turn(self, order: BuildOrder, tell: Tell) -> LocalImage:
        async with self._turn:
            self._store.collection.building = True
            try:
                # Most likely a step that never ends: on another box it would take as long.
                return await self._store.bring(
                    order.name, lambda images: self._build(images, order, tell), late=Refused
                )
            finally:
                self._store.collection.building = False

    async def _build(self, images: Images, order: BuildOrder, tell: Tell) -> LocalImage:
        context, *_ = self._contexts[order.name]
        return await images.build(msgspec.structs.replace(order, context=context), tell)
