"""Containers of this box that no job of its journal owns: told of, left alone for a while, then removed."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from runner.errors import Unavailable
from runner.job import Key
from runner.ports import ContainerSpec
from runner.records import Grant, Place, StartRecord
from tests.fakes.containers import Container
from tests.fakes.faults import raises
from tests.fakes.scenes import alive, newest, put, until
from tests.fakes.world import EPOCH, FakeWorld, key_of
from tests.virtual_time import run_virtual

KEY = Key("left.0123456789abcdef")
LEFT = f"{KEY}.1"


def leave_behind(world: FakeWorld, name: str) -> None:
    """Let a container run that the journal knows nothing of."""
    spec = ContainerSpec(name, KEY, 1, ("run", "9000", "0", "1"), {}, "", Grant((Place(cpus=0.0),)))
    world.containers.containers[name] = Container(spec, EPOCH, EPOCH + 9000, 0)


def test_what_no_job_owns_is_told_of_and_removed_a_minute_later(caplog: pytest.LogCaptureFixture) -> None:
    """Somebody who put back an old journal has that long to stop the runner; jobs that run are left alone."""

    async def main() -> None:
        world = FakeWorld()
        leave_behind(world, LEFT)
        await put(world, "own", id="long", command=["run", "300", "0", "1"])
        async with alive(world):
            await asyncio.sleep(50)
            assert LEFT in world.containers.containers
            assert {record.__dict__["container"] for record in caplog.records if "no job owns" in record.msg} == {LEFT}
            await asyncio.sleep(15)
            assert set(world.containers.containers) == {f"{key_of(world, 'long')}.1"}
            await until(lambda: newest(world, "long"), limit_s=400)

    run_virtual(main())


def test_one_that_a_job_owns_in_time_is_kept() -> None:
    """Its start stood not in the journal yet when it was seen first."""

    async def main() -> None:
        world = FakeWorld()
        leave_behind(world, LEFT)
        await put(world, "own", id="long", command=["run", "900", "0", "1"])
        async with alive(world):
            await asyncio.sleep(30)
            entry = world.journal.entries[key_of(world, "long")]
            starting = StartRecord(LEFT, world.now())
            world.journal.entries[KEY] = msgspec.structs.replace(entry, key=KEY, starting=starting)
            await asyncio.sleep(300)
            assert LEFT in world.containers.containers
            del world.journal.entries[KEY]
            await asyncio.sleep(800)
            assert LEFT not in world.containers.containers

    run_virtual(main())


def test_a_removal_that_fails_is_tried_again() -> None:
    async def main() -> None:
        world = FakeWorld()
        leave_behind(world, LEFT)
        world.troubles["containers.list_ours"] = raises(Unavailable("the engine is away"), times=100)
        async with alive(world):
            await until(lambda: not world.containers.containers, limit_s=3000)

    run_virtual(main())
