"""A Docker engine of one test's own: stopped, killed, frozen, configured and started again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from adapters.containers import docker_engine
from tests.services.daemon import Daemon, running
from tests.services.engine import Engine
from tests.services.instances import started
from tests.services.table import SERVICES

EVENTS_KEPT = 256


class OwnEngine:
    """An engine of one test's own, to stop and start again."""

    def __init__(self, url: str, image: str, stack: ExitStack) -> None:
        self.url, self.image = url, image
        self.client = Engine(Path(url.removeprefix("unix://")))
        self._directory = Path(url.removeprefix("unix://")).parent
        self._stack = stack
        pid = self._pid()
        self._command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
        # The next one must find the mounts of the first, which may have a namespace of its own.
        self._mounts = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
        stack.callback(os.close, self._mounts)

    def configure(self, text: str) -> None:
        """Write the engine's configuration, which counts from its next start."""
        (self._directory / "daemon.json").write_text(text)

    def freeze(self) -> None:
        """Let it hang: it takes calls, and answers none."""
        os.kill(self._pid(), signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on where it hung."""
        os.kill(self._pid(), signal.SIGCONT)

    async def stop(self) -> None:
        """Ask it to end, and return when it did."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """End it without asking, and return when it did; its children end with it."""
        await self._end(signal.SIGKILL)
        # What is not reaped yet would be taken for an engine that runs.
        (self._directory / "pid").unlink()

    async def _end(self, number: signal.Signals) -> None:
        gone = asyncio.Event()
        pid = self._pid()
        process = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(process, gone.set)
        os.kill(pid, number)
        await gone.wait()
        asyncio.get_running_loop().remove_reader(process)
        os.close(process)

    def start(self) -> None:
        """Start its successor, which ends with the test."""
        enter = ["nsenter", f"--mount=/proc/{os.getpid()}/fd/{self._mounts}", "--"]
        daemon = Daemon(
            command=[*enter, *self._command],
            environment=dict(os.environ),
            log=self._directory / "successor.log",
            ready=self.client.answers,
        )
        self._stack.enter_context(running(daemon))

    async def forget_events(self) -> None:
        """Let so many things happen to a container of somebody else that the engine forgets what was before."""
        engine = docker_engine.Engine(self.url)
        async with engine.call("rename") as docker:
            other = await docker.containers.create({"Image": self.image, "Cmd": ["true"]}, name="other")
            for number in range(EVENTS_KEPT):
                await other.rename(f"other-{number}")
            await other.delete()
        await engine.close()

    def _pid(self) -> int:
        return int((self._directory / "pid").read_text())


@contextmanager
def own_engine() -> Iterator[OwnEngine]:
    """Start one, with the images of tests."""
    with started(SERVICES["docker"]) as variables, ExitStack() as stack:
        yield OwnEngine(variables["RUNNER_TEST_DOCKER"], variables["RUNNER_TEST_IMAGE_BUSYBOX"], stack)
