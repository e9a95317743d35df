"""The container suite's view of a real Docker engine."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from adapters.containers.docker import DockerContainers
from adapters.containers.docker_spec import DockerSettings
from runner.ports import ContainerSpec
from runner.records import Grant, Place
from tests.conformance.container_harness import BOX, KEY, MEMORY_BYTES, NOTHING, OTHER_BOX


class DockerHarness:
    """Containers of one engine, with box ids that are used once."""

    limits_memory = True

    def __init__(self, url: str, image: str, directory: Path) -> None:
        self._url = url
        self._image = image
        self._directory = directory
        # A test that was aborted may have left containers, which must not be taken for ours.
        self._run = uuid.uuid4().hex

    @contextlib.asynccontextmanager
    async def open(self, box: str = BOX) -> AsyncIterator[DockerContainers]:
        settings = DockerSettings(box=f"{box}-{self._run}", directory=str(self._directory / "containers"))
        containers = DockerContainers(self._url, settings, time.time)
        try:
            yield containers
        finally:
            await containers.close()

    def workspace(self, name: str) -> Path:
        path = self._directory / "workspaces" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def spec(
        self, name: str, *command: str, env: Mapping[str, str] = NOTHING, deadline_at: float | None = None
    ) -> ContainerSpec:
        return ContainerSpec(
            name=name,
            key=KEY,
            attempt=1,
            command=command,
            env=dict(env),
            workspace=str(self.workspace(name)),
            grant=Grant(places=(Place(memory=MEMORY_BYTES, cpus=1, disk=1 << 30),)),
            image=self._image,
            deadline_at=deadline_at,
        )

    async def clean(self) -> None:
        for box in (BOX, OTHER_BOX):
            async with self.open(box) as containers:
                for name in await containers.list_ours():
                    await containers.remove(name)
