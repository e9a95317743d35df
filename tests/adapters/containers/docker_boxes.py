"""A box on a private Docker engine, for tests: specs in one line, output collected, everything removed at the end."""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from adapters.containers.docker import DockerContainers
from adapters.containers.docker_box import engine_name
from adapters.containers.docker_deadline import write_deadline
from adapters.containers.docker_engine import Engine
from adapters.containers.docker_spec import Arranged, DockerSettings, request
from adapters.containers.docker_state import LABEL_BOX
from adapters.containers.ownership import hand_over
from runner.job import Key
from runner.ports import ContainerSpec, Exit
from runner.records import Grant, Place

T = TypeVar("T")
LIMIT_S = 60.0
MIB = 1 << 20
STREAMS = ("stdout", "stderr")


@dataclass
class DockerBox:
    """One box: its containers, and what a test needs to make and look at them."""

    url: str
    image: str
    directory: Path
    changes: Mapping[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    settings: DockerSettings = field(init=False)
    containers: DockerContainers = field(init=False)

    def __post_init__(self) -> None:
        standard = DockerSettings(box=self.id, directory=str(self.directory / "containers"), log_budget_bytes=8 * MIB)
        self.settings = msgspec.structs.replace(standard, **self.changes)
        self.containers = self.another_life()

    def another_life(self, url: str | None = None) -> DockerContainers:
        """Return what the next runner on this box would use; the caller closes."""
        return DockerContainers(url or self.url, self.settings, time.time)

    def spec(self, *command: str, place: Place | None = None, **fields: object) -> ContainerSpec:
        """Describe a container with a name and a workspace of its own."""
        name = f"job-{uuid.uuid4().hex[:12]}"
        workspace = self.directory / f"{name}-work"
        workspace.mkdir()
        spec = ContainerSpec(
            name=f"{name}.1",
            key=Key(name),
            attempt=1,
            command=command,
            env={},
            workspace=str(workspace),
            grant=Grant((place or Place(),)),
            image=self.image,
        )
        return msgspec.structs.replace(spec, **fields)

    async def run(self, spec: ContainerSpec) -> tuple[Exit, dict[str, bytes]]:
        """Start, read to the end, wait."""
        await self.containers.start(spec)
        output = await collect(self.containers, spec.name)
        return await self.containers.wait(spec.name), output

    def called(self, name: str) -> str:
        """Return what the engine calls a container of this box."""
        return engine_name(name, self.id)

    async def inspect(self, name: str) -> dict[str, Any]:
        """Return what the engine itself says of a container of this box."""
        engine = Engine(self.url)
        async with engine.call("describe") as docker:
            described: dict[str, Any] = await docker.containers.container(self.called(name)).show()
        await engine.close()
        return described

    async def create_only(self, spec: ContainerSpec) -> None:
        """Do what a runner did that was killed between creating and starting."""
        directory = write_deadline(self.settings.directory, spec.name, spec.deadline_at)
        uid = self.settings.uids[0]
        body = request(spec, self.settings, Arranged(uid=uid, owner=uid, deadline_directory=directory))
        await self.create_raw(self.called(spec.name), body)
        if os.geteuid() == 0:
            hand_over(spec.workspace, self.settings.uids[0])

    async def create_raw(self, name: str, body: Mapping[str, Any]) -> None:
        """Create a container as anybody could."""
        engine = Engine(self.url)
        async with engine.call("create") as docker:
            await docker.containers.create(dict(body), name=name)
        await engine.close()

    async def delete_raw(self, name: str) -> None:
        """Delete a container as anybody could."""
        engine = Engine(self.url)
        async with engine.call("delete") as docker:
            await docker.containers.container(name).delete(force=True)
        await engine.close()

    async def remove_all(self) -> None:
        """Delete everything that carries this box's label, also networks."""
        engine = Engine(self.url)
        async with engine.call("clear") as docker:
            filters = json.dumps({"label": [f"{LABEL_BOX}={self.id}"]})
            for container in await docker.containers.list(all=True, filters=filters):
                await container.delete(force=True, v=True)
            for network in await docker.networks.list(filters={"label": [f"{LABEL_BOX}={self.id}"]}):
                await (await docker.networks.get(network["Id"])).delete()
        await engine.close()


async def collect(containers: DockerContainers, name: str, skip: Mapping[str, int] | None = None) -> dict[str, bytes]:
    """Read a container's output to its end."""
    output = {stream: bytearray() for stream in STREAMS}
    async for chunk in containers.attach(name, skip or {}):
        output[chunk.stream] += chunk.data
    return {stream: bytes(data) for stream, data in output.items()}


async def collect_until(
    containers: DockerContainers, name: str, enough: int, skip: Mapping[str, int]
) -> dict[str, bytes]:
    """Read until stdout has so many bytes, then let go."""
    output = {stream: bytearray() for stream in STREAMS}
    async with aclosing(containers.attach(name, skip)) as chunks:  # type: ignore[type-var]  # an async generator
        async for chunk in chunks:
            output[chunk.stream] += chunk.data
            if len(output["stdout"]) >= enough:
                break
    return {stream: bytes(data) for stream, data in output.items()}


@dataclass
class DockerMachine:
    """A private engine and an image: what `on_box` fixtures give."""

    url: str
    image: str
    directory: Path

    def run(self, scenario: Callable[[DockerBox], Coroutine[Any, Any, T]], **changes: object) -> T:
        """Run a scenario on a box of its own, within a minute, and leave nothing of the box on the engine."""

        async def within_limit() -> T:
            async with asyncio.timeout(LIMIT_S), self._opened(changes) as box:
                return await scenario(box)

        return asyncio.run(within_limit())

    @asynccontextmanager
    async def _opened(self, changes: Mapping[str, Any]) -> AsyncIterator[DockerBox]:
        box = DockerBox(self.url, self.image, self.directory, changes)
        try:
            yield box
        finally:
            await box.containers.close()
            await box.remove_all()
