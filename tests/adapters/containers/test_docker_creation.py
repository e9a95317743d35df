"""How a container is made where the engine, or the box's files, do not answer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from adapters.containers.docker_box import BoxContainers
from adapters.containers.docker_creation import Creation
from adapters.containers.docker_engine import Engine
from adapters.containers.docker_secrets import ContainerSecrets
from adapters.containers.secret_shelf import SecretShelf, no_secrets
from runner.errors import ImageGone
from runner.ports import ContainerSpec
from tests.adapters.containers.docker_boxes import DockerBox
from tests.adapters.containers.engine_imitation import imitation

CREATE = "/containers/create"
MADE = {"Id": "made"}


class Maker:
    """Makes containers on an imitation of an engine, whose answers a test may change."""

    def __init__(self, directory: Path, engine: Engine) -> None:
        self.answers: dict[str, object] = {
            "/version": {"ApiVersion": "1.41"},
            "/info": {"DockerRootDir": "/var/lib/docker"},
            "/images/sha256:1/json": {},
            CREATE: MADE,
        }
        self.box = DockerBox(engine.url, "sha256:1", directory, {"uids": (70001, 70002)})
        self.creation = Creation(engine, BoxContainers(engine, self.box.id), self.box.settings)
        self._directory = str(directory)

    async def owner_of(self, spec: ContainerSpec) -> int:
        """Make one, and tell whose it is."""
        secrets = ContainerSecrets(SecretShelf(self.box.id, no_secrets), spec)
        return (await self.creation.create(spec, self._directory, "none", secrets)).owner


@asynccontextmanager
async def making(directory: Path) -> AsyncIterator[Maker]:
    engine = Engine(f"unix://{directory}/engine")
    maker = Maker(directory, engine)
    async with imitation(directory / "engine", maker.answers):
        try:
            yield maker
        finally:
            await engine.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root chooses among users")
def test_a_container_that_may_come_late_has_the_user_that_is_kept_for_it(tmp_path: Path) -> None:
    """The first try broke off; a user that became free since is not the one that it was asked for."""

    async def main() -> None:
        async with making(tmp_path) as maker:
            first, late = maker.box.spec("true"), maker.box.spec("true")
            assert await maker.owner_of(first) == 70001
            del maker.answers[CREATE]
            with pytest.raises(ImageGone):
                await maker.owner_of(late)
            await maker.creation.forget(first.name)
            maker.answers[CREATE] = MADE
            assert await maker.owner_of(late) == 70002

    asyncio.run(main())


def test_a_file_that_cannot_be_read_to_its_end_holds_up_a_start_no_longer_than_its_limit(tmp_path: Path) -> None:
    """As on a network's disk that is gone; the thread is left, since it changes nothing."""
    never = tmp_path / "profile.json"
    os.mkfifo(never)

    async def main() -> None:
        async with making(tmp_path) as maker:
            spec = msgspec.structs.replace(maker.box.spec("true"), seccomp=str(never))
            start = asyncio.create_task(maker.owner_of(spec))
            writer = await asyncio.to_thread(os.open, never, os.O_WRONLY)
            try:
                start.cancel()
                await asyncio.wait({start}, timeout=5)
                assert start.cancelled()
            finally:
                os.close(writer)

    asyncio.run(main())
