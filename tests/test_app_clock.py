"""The wall clock of a box is set, by hours and in either direction, at every stage of a job: no job notices."""

from __future__ import annotations

import asyncio

import pytest

from runner.job import Verdict
from runner.units import Duration
from tests.fakes.scenes import alive, ended, newest, put, reason, until
from tests.fakes.world import FakeWorld, configuration, key_of
from tests.virtual_time import run_virtual

HOUR_S = 3600.0
JUMPS_S = (HOUR_S, -HOUR_S, 30 * 24 * HOUR_S, -30 * 24 * HOUR_S)
LASTS = ["run", "30", "0", "3"]


@pytest.mark.parametrize("jump_s", JUMPS_S)
@pytest.mark.parametrize("after_s", [0.0, 0.2, 1.0, 15.0, 29.0, 31.0])
def test_a_clock_that_jumps_ends_no_job_and_loses_none(jump_s: float, after_s: float) -> None:
    """Limits, leases and patience go by a clock that cannot be set."""

    async def main() -> None:
        world = FakeWorld()
        for number in range(4):
            await put(world, "shared", id=f"job-{number}", command=LASTS, timeout=60)
        async with alive(world, configuration(patience=Duration(200))):
            await asyncio.sleep(after_s)
            world.clock_off_s = jump_s
            names = [f"job-{number}" for number in range(4)]
            await until(lambda: ended(world, *names), limit_s=300)
            await until(lambda: len(world.queues["shared"].settled) >= 4, limit_s=60)
        assert {"succeeded"} == {reason(world, name) for name in names}
        assert {f"{key_of(world, name)}.1": 1 for name in names} == world.containers.starts
        assert [Verdict.ACK] * 4 == list(world.queues["shared"].settled.values())
        receipt = newest(world, "job-0")
        assert receipt is not None
        assert all(seconds >= 0 for seconds in receipt.stages.values()), receipt.stages

    run_virtual(main())


@pytest.mark.parametrize("jump_s", JUMPS_S)
def test_a_time_limit_is_kept_through_a_jump(jump_s: float) -> None:
    async def main() -> None:
        world = FakeWorld()
        await put(world, "shared", id="job", command=["run", "4000", "0", "1"], timeout=60)
        async with alive(world):
            await until(lambda: world.containers.containers)
            await asyncio.sleep(5)
            began = asyncio.get_running_loop().time()
            world.clock_off_s = jump_s
            await until(lambda: ended(world, "job"), limit_s=300)
            assert asyncio.get_running_loop().time() - began < 70
        assert reason(world, "job") == "timeout"

    run_virtual(main())


@pytest.mark.parametrize("jump_s", JUMPS_S)
def test_a_jump_between_two_lives_ends_no_job(jump_s: float) -> None:
    """The machine had no time yet when it booted."""

    async def main() -> None:
        world = FakeWorld()
        await put(world, "shared", id="job", command=LASTS, timeout=60)
        async with alive(world, killed=True):
            await until(lambda: world.containers.containers)
        world.clock_off_s = jump_s
        async with alive(world):
            await until(lambda: ended(world, "job"), limit_s=300)
            await until(lambda: world.queues["shared"].settled, limit_s=60)
        assert reason(world, "job") == "succeeded"
        assert {f"{key_of(world, 'job')}.1": 1} == world.containers.starts

    run_virtual(main())


@pytest.mark.parametrize("jump_s", JUMPS_S)
def test_a_time_limit_is_kept_through_a_jump_between_two_lives(jump_s: float) -> None:
    async def main() -> None:
        world = FakeWorld()
        await put(world, "shared", id="job", command=["run", "4000", "0", "1"], timeout=60)
        async with alive(world, killed=True):
            await until(lambda: world.containers.containers)
            began = asyncio.get_running_loop().time()
            await asyncio.sleep(20)
        world.clock_off_s = jump_s
        async with alive(world):
            await until(lambda: ended(world, "job"), limit_s=300)
            assert 59 < asyncio.get_running_loop().time() - began < 70
        assert reason(world, "job") == "timeout"

    run_virtual(main())


@pytest.mark.parametrize("jump_s", JUMPS_S)
def test_what_waits_goes_on_after_a_jump(jump_s: float) -> None:
    """Back-off and patience are not prolonged by a clock that was set back."""

    async def main() -> None:
        world = FakeWorld()
        await put(world, "shared", id="fails", command=["run", "1", "1", "1"], retries=2)
        await put(world, "shared", id="big", command=LASTS, resources={"cpus": 2})
        await put(world, "shared", id="small", command=LASTS, resources={"cpus": 1})
        async with alive(world):
            await asyncio.sleep(2)
            world.clock_off_s = jump_s
            await until(lambda: ended(world, "fails", "big", "small"), limit_s=600)
        assert ("failed", "succeeded", "succeeded") == tuple(reason(world, name) for name in ("fails", "big", "small"))

    run_virtual(main())
