"""The container suite's view of a real Docker engine."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

from adapters.containers.docker import DockerContainers
from adapters.containers.docker_box import engine_name
from adapters.containers.docker_spec import DockerSettings
from tests.conformance.container_harness import BOX, Harness


class DockerHarness(Harness):
    """Containers of one engine, with box ids that are used once."""

    limits_memory = True

    def __init__(self, url: str, image: str, directory: Path, *, answer_s: float = 30.0) -> None:
        super().__init__(directory)
        self._url, self._answer_s = url, answer_s
        self.image = image
        # As the private engines of the tests have it.
        self.raw_output = Path(url.removeprefix("unix://")).parent / "data" / "containers"
        # A test that was aborted may have left containers, which must not be taken for ours.
        self._run = uuid.uuid4().hex

    def called(self, name: str, box: str = BOX) -> str:
        """Return what the engine calls a container."""
        return engine_name(name, f"{box}-{self._run}")

    @contextlib.asynccontextmanager
    async def open(self, box: str = BOX) -> AsyncIterator[DockerContainers]:
        settings = DockerSettings(
            box=f"{box}-{self._run}", directory=str(self.directory / "containers"), answer_s=self._answer_s
        )
        containers = DockerContainers(self._url, settings, time.time, self.shelf(settings.box))
        try:
            yield containers
        finally:
            await containers.close()
