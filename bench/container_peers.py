"""
What containers of the runner are measured beside: bare aiodocker with the same create options, and ``docker run``.

The first makes a workspace, attaches, starts, reads the output to its end, waits and deletes, sealed or as the engine
has it by default. The second is a shell that starts the engine's own client for each job, with the same options.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from adapters.containers.docker_spec import Arranged, DockerSettings, request
from bench.peers import Block, Work, at_once
from runner.job import make_key
from runner.ports import ContainerSpec
from runner.records import Grant, Place

if TYPE_CHECKING:
    from aiodocker import Docker

COMMAND = ("true",)
MEMORY_BYTES = 64 << 20
UID = 64_321
LIMIT_S = 60.0


class BareDocker:
    """A loop over the SDK alone."""

    def __init__(self, docker: Docker, image: str, directory: str, *, sealed: bool) -> None:
        self._docker, self._image, self._directory, self._sealed = docker, image, directory, sealed

    async def block(self, names: Sequence[str], slots: int) -> Block:
        """Run a container for each name."""

        def work(name: str) -> Work:
            return lambda _slot: self._job(name)

        return await at_once([work(name) for name in names], slots)

    async def _job(self, name: str) -> None:
        workspace = os.path.join(self._directory, name)
        os.mkdir(workspace)
        os.chown(workspace, UID, UID)
        async with asyncio.timeout(LIMIT_S):
            container = await self._docker.containers.create(self._body(name, workspace), name=name)
            stream = container.attach(stdout=True, stderr=True)
            async with stream:
                await container.start()
                while await stream.read_out() is not None:
                    pass
            assert (await container.wait())["StatusCode"] == 0
            await container.delete(force=True, v=True)
        shutil.rmtree(workspace)

    def _body(self, name: str, workspace: str) -> dict[str, Any]:
        if not self._sealed:
            return {"Image": self._image, "Cmd": list(COMMAND)}
        key = make_key("bench", name, "1")
        grant = Grant(places=(Place(memory=MEMORY_BYTES, cpus=0.5, disk=64 << 20),))
        spec = ContainerSpec(name, key, 1, COMMAND, {}, workspace, grant, image=self._image)
        settings = DockerSettings(box="bench", directory=self._directory)
        arranged = Arranged(uid=UID, owner=UID, deadline_directory=self._directory)
        return request(spec, settings, arranged)


@asynccontextmanager
async def open_bare(url: str, image: str, directory: str, *, sealed: bool) -> AsyncIterator[BareDocker]:
    """Connect to the engine at ``url``; workspaces stand below ``directory``."""
    import aiodocker

    os.makedirs(directory, exist_ok=True)
    docker = aiodocker.Docker(url)
    try:
        yield BareDocker(docker, image, directory, sealed=sealed)
    finally:
        await docker.close()


OPTIONS = (
    "--network none --read-only --cap-drop ALL --security-opt no-new-privileges --init --ipc private "
    f"--user {UID}:{UID} --memory {MEMORY_BYTES} --memory-swap {MEMORY_BYTES} --cpus 0.5 --pids-limit 4096 "
    "--ulimit core=0 --log-driver local --tmpfs /tmp:exec,nosuid,nodev,mode=1777 --workdir /work"
)


class DockerRun:
    """A shell loop over ``docker run --rm``, so many side by side."""

    def __init__(self, url: str, image: str, directory: str) -> None:
        self._url, self._image, self._directory = url, image, directory
        os.makedirs(directory, exist_ok=True)
        os.chown(directory, UID, UID)

    async def block(self, count: int, slots: int) -> float:
        """Return milliseconds a job of so many jobs."""
        words = ["docker", "-H", self._url, "run", "--rm", *OPTIONS.split(), "-v", f"{self._directory}:/work"]
        loop = f"seq {count} | xargs -n 1 -P {slots} sh -c {shlex.quote(shlex.join([*words, self._image, *COMMAND]))}"
        began = time.perf_counter()
        process = await asyncio.create_subprocess_exec("sh", "-c", loop)
        assert await process.wait() == 0
        return (time.perf_counter() - began) * 1000 / count
