"""An engine is replaced while a job runs: where it keeps containers the job and its log go on, else both end well."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from adapters.containers.docker import DockerContainers
from runner.errors import Unavailable
from runner.ports import Exit
from tests.adapters.containers.docker_boxes import STREAMS, DockerBox, DockerMachine
from tests.services.daemon import Daemon, running
from tests.services.engine import Engine
from tests.services.instances import started
from tests.services.table import SERVICES

pytestmark = [pytest.mark.docker, pytest.mark.integration, pytest.mark.slow]
COUNT = 400
TALK = f"i=0; while [ $i -lt {COUNT} ]; do i=$((i+1)); echo $i; echo $i >&2; sleep 0.01; done; exit 7"
LINES = b"".join(b"%d\n" % number for number in range(1, COUNT + 1))


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

    async def stop(self) -> None:
        """Ask it to end, and return when it did."""
        gone = asyncio.Event()
        pid = self._pid()
        process = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(process, gone.set)
        os.kill(pid, signal.SIGTERM)
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

    def _pid(self) -> int:
        return int((self._directory / "pid").read_text())


@pytest.fixture(scope="module")
def engine() -> Iterator[OwnEngine]:
    with started(SERVICES["docker"]) as variables, ExitStack() as stack:
        yield OwnEngine(variables["RUNNER_TEST_DOCKER"], variables["RUNNER_TEST_IMAGE_BUSYBOX"], stack)


async def read_as_a_runner_does(
    containers: DockerContainers, name: str, output: dict[str, bytearray], begun: asyncio.Event
) -> None:
    """Read on from what is there whenever the engine broke off; tell when a tenth has come."""
    while True:
        try:
            async for chunk in containers.attach(name, {stream: len(data) for stream, data in output.items()}):
                output[chunk.stream] += chunk.data
                if len(output["stdout"]) > len(LINES) // 10:
                    begun.set()
        except Unavailable:
            await asyncio.sleep(0)
        else:
            return


async def wait_as_a_runner_does(containers: DockerContainers, name: str) -> Exit:
    while True:
        try:
            return await containers.wait(name)
        except Unavailable:
            await asyncio.sleep(0)


async def talk_through_a_restart(box: DockerBox, engine: OwnEngine) -> tuple[Exit, bytes, bytes]:
    """Replace the engine in the middle of a job that prints, and return how the job ended and what it said."""
    spec = box.spec("sh", "-c", TALK)
    output = {stream: bytearray() for stream in STREAMS}
    begun = asyncio.Event()
    before = await box.containers.start(spec)
    async with asyncio.TaskGroup() as group:
        group.create_task(read_as_a_runner_does(box.containers, spec.name, output, begun))
        ended = group.create_task(wait_as_a_runner_does(box.containers, spec.name))
        await begun.wait()
        await engine.stop()
        engine.start()
    after = await box.containers.adopt(spec.name)
    assert after is not None
    assert before.started_at == after.started_at
    return ended.result(), bytes(output["stdout"]), bytes(output["stderr"])


def test_a_job_outlives_an_engine_that_keeps_containers(engine: OwnEngine, tmp_path: Path) -> None:
    """What it wrote before, meanwhile and after is there once."""
    engine.configure('{"live-restore": true}')
    asyncio.run(engine.stop())
    engine.start()
    machine = DockerMachine(engine.url, engine.image, tmp_path)
    ended, out, err = machine.run(lambda box: talk_through_a_restart(box, engine))
    assert (7, LINES, LINES) == (ended.code, out, err)


def test_a_job_that_its_engine_took_down_is_told_as_ended(engine: OwnEngine, tmp_path: Path) -> None:
    """With all that it said until then."""
    engine.configure("{}")
    asyncio.run(engine.stop())
    engine.start()
    machine = DockerMachine(engine.url, engine.image, tmp_path)
    ended, out, err = machine.run(lambda box: talk_through_a_restart(box, engine))
    assert ended.code in {137, 143}
    assert (True, True) == (LINES.startswith(out), LINES.startswith(err))
    assert len(out) > len(LINES) // 10
