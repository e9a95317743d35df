"""What the collection of images does to a real engine: no force, no image of others, none that a container has."""

from __future__ import annotations

import asyncio
import io
import tarfile
import uuid
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from adapters.containers.docker_engine import Engine as EngineLink
from adapters.containers.docker_images import DockerImages
from adapters.image_records import FileImageRecords
from runner.image_keeping import Wanted, removable, remove_image
from runner.image_name import whole_name
from runner.ports import KnownImages, LocalImage
from tests.services.engine import Engine

pytestmark = pytest.mark.docker
FREE_BYTES = 1 << 20


class Scene:
    """Two names for one image of which the runner pulled the first; all calls on the engine itself."""

    def __init__(self, url: str, directory: Path) -> None:
        self.link, self.images, self.records = EngineLink(url), DockerImages(url), FileImageRecords(str(directory))
        self.names = [f"lab-{uuid.uuid4().hex[:8]}:{tag}" for tag in (1, 2)]

    async def open(self) -> None:
        image = await self.image()
        assert image is not None
        await self.records.complete(whole_name(self.names[0]), image, 1.0)

    async def image(self) -> LocalImage | None:
        return await self.images.resolve(self.names[0])

    async def known(self) -> KnownImages:
        return await self.records.known()

    async def collect(self) -> list[bool]:
        known, used = await self.known(), await self.images.in_use()
        found = removable(await self.images.list(), known, Wanted(), used=used, now=1e9)
        return [await remove_image(image, known, self.images, self.records) for image in found]

    async def close(self) -> None:
        for name in self.names:
            await self.images.remove(name)
        await self.images.close()
        await self.link.close()


@pytest.fixture
def scene(docker_url: str, tmp_path: Path) -> Scene:
    content, engine = io.BytesIO(), Engine(Path(docker_url.removeprefix("unix://")))
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(uuid.uuid4().hex))
    found = Scene(docker_url, tmp_path)
    engine.import_image(io.BytesIO(content.getvalue()), found.names[0], "/bin")
    return found


def run(scene: Scene, steps: Coroutine[Any, Any, None]) -> None:
    async def whole() -> None:
        await scene.open()
        try:
            await steps
        finally:
            await scene.close()

    asyncio.run(whole())


def test_what_nobody_uses_is_gone_with_its_row(scene: Scene) -> None:
    async def steps() -> None:
        assert (await scene.images.free_bytes() or 0) > FREE_BYTES
        assert [True] == await scene.collect()
        assert (await scene.image(), await scene.known()) == (None, KnownImages())

    run(scene, steps())


def test_an_image_that_others_named_too_loses_only_our_name(scene: Scene) -> None:
    async def steps() -> None:
        image = await scene.image()
        assert image is not None
        repository, _, tag = scene.names[1].partition(":")
        async with scene.link.call("tag") as docker:
            await docker.images.tag(image.id, repository, tag=tag)
        assert [False] == await scene.collect()
        left = await scene.images.resolve(image.id)
        assert left is not None
        assert (left.names, await scene.known()) == ((scene.names[1],), KnownImages())

    run(scene, steps())


def test_an_image_of_any_container_stays_also_one_that_never_ran(scene: Scene) -> None:
    """And where one is made between the look and the removal, the engine itself says no."""

    async def steps() -> None:
        known = await scene.known()
        image = await scene.image()
        assert image is not None
        async with scene.link.call("create") as docker:
            container = await docker.containers.create({"Image": image.id, "Cmd": ["x"]})
        try:
            assert await scene.collect() == []
            assert not await scene.images.remove(image.id)
            assert not await remove_image(image, known, scene.images, scene.records)
            assert await scene.image() == image
            assert await scene.known() == known
        finally:
            async with scene.link.call("delete"):
                await container.delete(force=True)

    run(scene, steps())
