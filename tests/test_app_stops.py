"""Stops that come at a bad moment: each ends the job for the reason it was given, once."""

from __future__ import annotations

import asyncio

import pytest

from runner.app import drain
from runner.control import RunningControl
from tests.fakes.scenes import alive, newest, put, until
from tests.fakes.world import FakeWorld
from tests.virtual_time import run_virtual

LONG = ["run", "5000", "0", "1"]


@pytest.mark.parametrize("how", ["cancelled", "timeout", "preempted"])
def test_what_a_stop_ended_is_told_by_a_coarse_clock_too(how: str) -> None:
    """A job that dies at once may carry the time of the tick before; it has not failed for that."""

    async def main() -> None:
        world = FakeWorld()
        world.containers.coarse_s = 0.01
        limits = {"timeout": "20s"} if how == "timeout" else {}
        await put(world, "shared", id="job", command=LONG, **limits)
        async with alive(world) as runner:
            await until(lambda: world.containers.containers)
            if how == "cancelled":
                await RunningControl(runner).cancel("job")
            if how == "preempted":
                await drain(runner, asyncio.Event(), 1.0)
            await until(lambda: newest(world, "job"), limit_s=60)
        receipt = newest(world, "job")
        assert receipt is not None
        assert (receipt.end_reason, receipt.exit_code) == (how, 143)

    run_virtual(main())
