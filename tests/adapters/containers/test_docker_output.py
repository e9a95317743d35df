"""Output on a real engine: every byte once, whenever the reader, the connection or the runner went away."""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import aclosing
from pathlib import Path

import pytest

from adapters.containers.docker import DockerContainers
from runner.errors import Unavailable
from tests.adapters.containers.docker_boxes import STREAMS, DockerBox, DockerMachine, collect, collect_until
from tests.adapters.containers.socket_proxy import SocketProxy

pytestmark = [pytest.mark.docker, pytest.mark.integration]
SH = ("sh", "-c")
BABBLE = """
import random, sys, time
seeded = random.Random(int(sys.argv[1]))
streams = (sys.stdout.buffer, sys.stderr.buffer)
for _ in range(120):
    stream = seeded.choice(streams)
    size = seeded.choice((1, 30, 2000, 16384, 16385, 40000))
    stream.write(seeded.randbytes(size) if seeded.random() < 0.5 else b"x" * size + b"\\n")
    stream.flush()
    time.sleep(seeded.choice((0, 0.01)))
streams[0].write(b"last")
"""


def babbled(seed: int) -> dict[str, bytes]:
    """Return what the job of this seed writes."""
    seeded = random.Random(seed)
    output = {stream: bytearray() for stream in STREAMS}
    for _ in range(120):
        stream = seeded.choice(STREAMS)
        size = seeded.choice((1, 30, 2000, 16384, 16385, 40000))
        output[stream] += seeded.randbytes(size) if seeded.random() < 0.5 else b"x" * size + b"\n"
        seeded.choice((0, 0.01))
    output["stdout"] += b"last"
    return {stream: bytes(data) for stream, data in output.items()}


def test_a_line_that_has_not_ended_arrives_at_once(machine: DockerMachine) -> None:
    """A progress bar is seen while it grows."""

    async def scenario(box: DockerBox) -> None:
        spec = box.spec(*SH, "printf '50 %%'; read x < /work/gate")
        gate = Path(spec.workspace) / "gate"
        os.mkfifo(gate)
        await box.containers.start(spec)
        chunks = box.containers.attach(spec.name, {})
        assert (await anext(chunks)).data == b"50 %"
        await asyncio.to_thread(gate.write_text, "go\n")
        assert [chunk async for chunk in chunks] == []

    machine.run(scenario)


@pytest.mark.parametrize("seed", range(4))
def test_readers_that_come_and_go_get_every_byte_once(python_machine: DockerMachine, seed: int) -> None:
    """Each reader is a new life of the runner that has what the ones before it read; the job runs on meanwhile."""

    async def scenario(box: DockerBox) -> None:
        wanted, chance = babbled(seed), random.Random(seed)
        spec = box.spec("python3", "-c", BABBLE, str(seed))
        await box.containers.start(spec)
        has = dict.fromkeys(STREAMS, b"")
        for _ in range(5):
            life = box.another_life() if any(has.values()) else box.containers
            enough = chance.randrange(1, len(wanted["stdout"]) // 6)
            new = await collect_until(life, spec.name, enough, {stream: len(data) for stream, data in has.items()})
            has = {stream: has[stream] + new[stream] for stream in STREAMS}
            await life.close()
        last = box.another_life()
        rest = await collect(last, spec.name, {stream: len(data) for stream, data in has.items()})
        assert (await last.wait(spec.name)).code == 0
        await last.close()
        assert wanted == {stream: has[stream] + rest[stream] for stream in STREAMS}

    python_machine.run(scenario)


def test_a_cut_connection_loses_nothing(python_machine: DockerMachine, tmp_path: Path) -> None:
    """One reading goes on through the kept log."""

    async def scenario(box: DockerBox) -> None:
        wanted = babbled(99)
        spec = box.spec("python3", "-c", BABBLE, "99")
        output = {stream: bytearray() for stream in STREAMS}
        async with SocketProxy(box.url, tmp_path).serving() as proxy:
            far = box.another_life(proxy.url)
            await far.start(spec)
            async with aclosing(far.attach(spec.name, {})) as chunks:  # type: ignore[type-var]  # an async generator
                async for chunk in chunks:
                    if not any(output.values()):
                        proxy.cut()
                    output[chunk.stream] += chunk.data
            await far.close()
        assert wanted == {stream: bytes(data) for stream, data in output.items()}

    python_machine.run(scenario)


async def read_through(
    containers: DockerContainers, name: str, output: dict[str, bytearray], proxy: SocketProxy
) -> None:
    """Read into ``output``, and cut every connection once half a megabyte is there."""
    async for chunk in containers.attach(name, {stream: len(data) for stream, data in output.items()}):
        before = len(output["stdout"])
        output[chunk.stream] += chunk.data
        if before < 1 << 19 <= len(output["stdout"]):
            proxy.cut()


def test_a_log_that_is_followed_survives_cuts(python_machine: DockerMachine, tmp_path: Path) -> None:
    """A reader of the kept log is told that the engine broke off, and goes on where it was."""

    async def scenario(box: DockerBox) -> None:
        wanted = babbled(7)
        spec = box.spec("python3", "-c", BABBLE, "7")
        await box.containers.start(spec)
        first = await collect_until(box.containers, spec.name, 1, {})
        output = {stream: bytearray(first[stream]) for stream in STREAMS}
        async with SocketProxy(box.url, tmp_path).serving() as proxy:
            far = box.another_life(proxy.url)
            with pytest.raises(Unavailable):
                await read_through(far, spec.name, output, proxy)
            await read_through(far, spec.name, output, proxy)
            await far.close()
        assert wanted == {stream: bytes(data) for stream, data in output.items()}

    python_machine.run(scenario)


def test_a_log_of_empty_lines_does_not_rotate_within_its_budget(machine: DockerMachine) -> None:
    """An empty line takes most room in the engine's log for what it says."""
    budget = 1 << 17

    async def scenario(box: DockerBox) -> None:
        spec = box.spec(*SH, f"yes '' | head -n {budget}")
        await box.run(spec)
        life = box.another_life()
        output = await collect(life, spec.name)
        await life.close()
        assert budget == len(output["stdout"])
        assert output["stdout"].strip(b"\n") == b""

    machine.run(scenario, log_budget_bytes=budget)


def test_much_output_comes_in_order(machine: DockerMachine) -> None:
    count = 200_000

    async def scenario(box: DockerBox) -> None:
        _, output = await box.run(box.spec(*SH, f"seq {count}"))
        life = box.another_life()
        again = await collect(life, (await life.list_ours())[0])
        await life.close()
        wanted = "".join(f"{number}\n" for number in range(1, count + 1)).encode()
        assert wanted == output["stdout"] == again["stdout"]

    machine.run(scenario)


def test_a_reader_that_stands_still_loses_nothing(machine: DockerMachine) -> None:
    """The job stands still with it instead, and goes on with it."""

    async def scenario(box: DockerBox) -> None:
        spec = box.spec(*SH, "seq 1000000; touch /work/done")
        await box.containers.start(spec)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(box.containers.wait(spec.name), 1)
        assert not (Path(spec.workspace) / "done").exists()
        output = await collect(box.containers, spec.name)
        assert output["stdout"].endswith(b"999999\n1000000\n")
        assert (await box.containers.wait(spec.name)).code == 0

    machine.run(scenario)
