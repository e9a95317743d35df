"""Room on the engine's disk: images that are not used give way where too little of it is free."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from runner.image_keeping import Wanted, removable, remove_image, wanted_by
from runner.ports import Images, LocalImage, World
from runner.trail import Trail
from runner.units import format_size

if TYPE_CHECKING:
    from runner.config import Config

logger = logging.getLogger(__name__)

LABEL_BOX = "gpu-runner.build-box"
"""On what this box builds; not that of containers, or steps of a build would be taken for jobs."""


class Collection:
    """Removes images; ``held`` are the ids that jobs need which are being staged."""

    def __init__(self, config: Config, world: World, trail: Trail, held: Callable[[], frozenset[str]]) -> None:
        """Keep what to ask."""
        self._config, self._world, self._trail, self._held = config, world, trail, held
        # While an image is built, what its steps left so far is none of the remains.
        self.building = False

    async def collect(self) -> None:
        """Remove images until as much is free as the configuration says, or none may go."""
        if self._world.images is not None:
            await self._collect(self._world.images, int(self._config.images_free))

    async def make_room(self) -> None:
        """Remove all images that may go: a pull found the disk full, and may need more than is to stay free."""
        if self._world.images is not None:
            await self._collect(self._world.images, None)

    async def settle(self) -> None:
        """Find out what became of pulls that an earlier life began: what they brought is ours."""
        images, records = self._world.images, self._world.image_records
        if images is None:
            return
        for pull in (await records.known()).begun:
            image = await images.resolve(pull.name)
            if image is not None and image.id != pull.before:
                await records.complete(pull.name, image, self._world.now())
            else:
                await records.abandon(pull.name)

    async def _collect(self, images: Images, floor_bytes: int | None) -> None:
        """Remove until ``floor_bytes`` are free; None: all that may go."""
        if floor_bytes is not None and await self._free_bytes(images) >= floor_bytes:
            return
        if not self.building:
            await images.drop_remains(f"{LABEL_BOX}={self._world.box.id}")
        known, wanted = await self._world.image_records.known(), wanted_by(await self._trail.in_flight())
        used = await images.in_use()
        for image in removable(await images.list(), known, wanted, used=used, now=self._world.now()):
            if self._may_go(image) and await remove_image(image, known, images, self._world.image_records):
                _log(image)
            if floor_bytes is not None and await self._free_bytes(images) >= floor_bytes:
                return

    def _may_go(self, image: LocalImage) -> bool:
        """Look again: a job may have come for it while others were removed."""
        return not Wanted(self._held()).holds(image)

    async def _free_bytes(self, images: Images) -> int:
        free = await images.free_bytes()
        return await self._world.workspaces.free_bytes() if free is None else free


def _log(image: LocalImage) -> None:
    facts = {"action": "collect", "image": image.id, "names": image.names, "size": format_size(image.size)}
    logger.info("an image gave way", extra=facts)
