"""An engine is replaced while a job runs: where it keeps containers the job and its log go on, else both end well."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.containers.docker import DockerContainers
from runner.errors import Unavailable
from runner.ports import Exit
from tests.adapters.containers.docker_boxes import STREAMS, DockerBox, DockerMachine
from tests.adapters.containers.own_engine import OwnEngine, own_engine

pytestmark = [pytest.mark.docker, pytest.mark.integration, pytest.mark.slow]
COUNT = 400
TALK = f"i=0; while [ $i -lt {COUNT} ]; do i=$((i+1)); echo $i; echo $i >&2; sleep 0.01; done; exit 7"
LINES = b"".join(b"%d\n" % number for number in range(1, COUNT + 1))


@pytest.fixture(scope="module")
def engine() -> Iterator[OwnEngine]:
    with own_engine() as it:
        yield it


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
