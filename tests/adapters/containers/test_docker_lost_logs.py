"""The engine's kept log of a job goes while the runner is dead: nothing hangs, repeats or is skipped, a gap is told."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from runner.errors import Unavailable
from runner.ports import Chunk, Containers, Gap
from tests.adapters.containers.docker_boxes import DockerBox, DockerMachine, collect_until

pytestmark = [pytest.mark.docker, pytest.mark.integration]
COUNT = "i=0; while [ ! -e /work/over ]; do i=$((i+1)); echo line $i; usleep 2000; done; echo the end"


def kept_logs(box: DockerBox, container_id: str) -> list[Path]:
    """Return the files of the engine that has its data beside its socket."""
    root = Path(box.url.removeprefix("unix://")).parent
    return [path for path in root.rglob("local-logs/*") if container_id in str(path)]


def cut_off(path: Path) -> None:
    os.truncate(path, 0)


def garble(path: Path) -> None:
    """Do what a disk does that lost a page in the middle."""
    with path.open("rb+") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff" * 100)


async def read_on(containers: Containers, name: str, had: int) -> AsyncIterator[Chunk]:
    """Do what a runner does where a reading broke off: begin again behind what it has."""
    for _ in range(5):
        with suppress(Unavailable):
            async for chunk in containers.attach(name, {"stdout": had}):
                had += len(chunk.data) if chunk.stream == "stdout" else 0
                yield chunk
            return
    raise AssertionError("it breaks off again and again")


async def lived_a_while(box: DockerBox, name: str) -> bytes:
    """Do what a runner does that dies after two seconds; return what it had read."""
    waiting = asyncio.ensure_future(box.containers.wait(name))
    output = await collect_until(box.containers, name, 6000, {})
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    return output["stdout"]


@pytest.mark.parametrize("harm", [Path.unlink, cut_off])
@pytest.mark.parametrize("runs_on", [True, False], ids=["running", "ended"])
def test_a_log_that_is_gone_is_one_gap(machine: DockerMachine, harm: Callable[[Path], None], *, runs_on: bool) -> None:
    async def scenario(box: DockerBox) -> None:
        spec = box.spec("sh", "-c", COUNT)
        over = Path(spec.workspace) / "over"
        await box.containers.start(spec)
        had = await lived_a_while(box, spec.name)
        await box.containers.close()
        life = box.another_life()
        if not runs_on:
            over.touch()
            await life.wait(spec.name)
        for path in kept_logs(box, (await box.inspect(spec.name))["Id"]):
            harm(path)
        new: list[Chunk] = []
        async for chunk in life.attach(spec.name, {"stdout": len(had)}):
            new.append(chunk)
            if len(new) == 3:
                over.touch()
        await life.close()
        gap, rest = msgspec.json.decode(new[0].data, type=Gap), b"".join(chunk.data for chunk in new[1:])
        assert ("gap", None, True) == (new[0].stream, gap.bytes, "log of the job was deleted" in gap.reason)
        if runs_on:
            lines = [int(line.split()[1]) for line in rest.splitlines()[1:-1]]
            assert lines == list(range(lines[0], lines[0] + len(lines)))
            assert lines[0] > len(had.splitlines())
            assert rest.endswith(b"\nthe end\n")
        else:
            assert b"" == rest

    machine.run(scenario)


@pytest.mark.parametrize("runs_on", [True, False], ids=["running", "ended"])
def test_a_log_that_is_damaged_in_its_middle_is_a_gap(machine: DockerMachine, *, runs_on: bool) -> None:
    """Behind the damage the engine reads nothing, however often it is asked."""

    async def scenario(box: DockerBox) -> None:
        spec = box.spec("sh", "-c", COUNT)
        over = Path(spec.workspace) / "over"
        await box.containers.start(spec)
        had = await lived_a_while(box, spec.name)
        await box.containers.close()
        life = box.another_life()
        if not runs_on:
            over.touch()
            await life.wait(spec.name)
        for path in kept_logs(box, (await box.inspect(spec.name))["Id"]):
            garble(path)
        streams: list[str] = []
        async for chunk in read_on(life, spec.name, len(had)):
            streams.append(chunk.stream)
            if len(streams) == 3:
                over.touch()
        await life.close()
        assert 1 == streams.count("gap")
        assert runs_on == ("stdout" in streams[streams.index("gap") :])

    machine.run(scenario)
