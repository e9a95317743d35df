"""Signs of life: what a box says of itself to those who watch a queue, every ten seconds, whatever becomes of it."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from runner.errors import Unavailable
from tests.fakes.faults import hangs, raises
from tests.fakes.scenes import alive, ended, put, until
from tests.fakes.world import BOX, EPOCH, GPUS, FakeWorld
from tests.virtual_time import run_virtual


def test_each_queue_is_told_every_ten_seconds_what_the_box_has_and_what_is_free() -> None:
    """Of the jobs of another queue only how many there are: their names are their owners'."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            await put(world, "own", id="long", command=["run", "300", "0", "1"], resources={"cpus": 0.5, "gpus": 1})
            await until(lambda: world.containers.containers)
            await asyncio.sleep(30)
            beats = world.results.beaten[-6:]
        assert {(("long",), 0), ((), 1)} == {(beat.running, beat.others) for beat in beats}
        assert {("box-1", 2, 1.5, BOX.memory)} == {(it.box, it.cores, it.cores_free, it.memory) for it in beats}
        assert all(0 < beat.memory_free < beat.memory for beat in beats)
        assert {("long", None), ("", None)} == {tuple(gpu.job for gpu in beat.gpus) for beat in beats}
        assert {GPUS} == {len(beat.gpus) for beat in beats}
        for queue in (("long",), ()):
            times = [beat.at - EPOCH for beat in beats if beat.running == queue]
            assert [10, 10] == [round(later - earlier) for earlier, later in pairwise(times)]

    run_virtual(main())


def test_a_queue_that_was_opened_is_told_at_once() -> None:
    """Whoever has just started a box looks for it now."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            await asyncio.sleep(3)
            assert len(world.results.beaten) == 2
        assert {"box-1"} == set(world.results.signs)

    run_virtual(main())


def test_a_result_backend_that_takes_no_beats_costs_nothing_else() -> None:
    """Whether it refuses or hangs: jobs are served, and the next beat is tried."""

    async def main() -> None:
        world = FakeWorld()
        world.troubles["results.beat"] = hangs
        async with alive(world):
            await put(world, "own", id="first")
            await until(lambda: ended(world, "first"), limit_s=30)
            world.troubles["results.beat"] = raises(Unavailable("it is away"))
            await put(world, "own", id="second")
            await until(lambda: ended(world, "second"), limit_s=30)
            assert world.results.beaten == []
            world.troubles.clear()
            await until(lambda: world.results.beaten, limit_s=120)

    run_virtual(main())
