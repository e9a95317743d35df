"""Runtimes that cannot end a job, or do not answer for long: nothing hangs for ever, and the log says it once."""

from __future__ import annotations

import asyncio
import logging

import pytest

from runner.control import RunningControl
from runner.errors import Unavailable
from tests.fakes.faults import raises
from tests.fakes.scenes import alive, newest, put, until
from tests.fakes.world import FakeWorld, key_of
from tests.virtual_time import run_virtual

LONG = ["run", "50000", "0", "1"]
UNKILLABLE = Unavailable("processes [7] do not die")
AWAY = Unavailable("the engine does not answer")


def said(world: FakeWorld, job_id: str) -> str:
    """Return the runner's own lines in a job's log."""
    lines = world.spool.lines[key_of(world, job_id)]
    return b"".join(line.data for line in lines if line.stream == "runner").decode()


def test_what_cannot_be_killed_is_left_and_its_job_ends() -> None:
    """For the reason that it was stopped for, with what stood in the way; deleted once that can be done."""

    async def main() -> None:
        world = FakeWorld()
        world.troubles["containers.stop"] = world.troubles["containers.remove"] = raises(UNKILLABLE)
        await put(world, "shared", id="job", command=LONG)
        async with alive(world) as runner:
            await until(lambda: world.containers.containers)
            await RunningControl(runner).cancel("job")
            await until(lambda: newest(world, "job"), limit_s=1200)
            receipt = newest(world, "job")
            assert receipt is not None
            assert ("cancelled", None) == (receipt.end_reason, receipt.exit_code)
            assert receipt.message.startswith("cancelled; it could not be ended: processes [7] do not die; ")
            assert world.containers.containers
            del world.troubles["containers.remove"]
            await until(lambda: not world.containers.containers)

    run_virtual(main())


def test_a_runtime_that_is_away_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """In the log of each job, and for all of them in the runner's; a limit that is reached meanwhile stands."""
    caplog.set_level(logging.WARNING)

    async def main() -> None:
        world = FakeWorld()
        for job_id in ("one", "two"):
            await put(world, "shared", id=job_id, command=LONG, timeout="1h", resources={"cpus": 0.5})
        async with alive(world):
            await until(lambda: len(world.containers.containers) == 2)
            await asyncio.sleep(10)
            for method in ("wait", "adopt", "attach", "stop"):
                world.troubles[f"containers.{method}"] = raises(AWAY)
            await asyncio.sleep(3700)
            world.troubles.clear()
            await until(lambda: newest(world, "one") and newest(world, "two"), limit_s=120)
        for job_id in ("one", "two"):
            receipt = newest(world, job_id)
            assert receipt is not None
            assert "timeout" == receipt.end_reason
            assert said(world, job_id).count("its limits count on") == 1
            assert said(world, job_id).count("answers again") == 1

    run_virtual(main())
    told = [record.message for record in caplog.records]
    assert ["the process runtime does not answer; what runs in it is waited for"] == [
        text for text in told if "does not answer; " in text
    ]
    assert len(told) < 60


def test_a_silent_job_is_no_fault_and_a_log_that_breaks_off_is(caplog: pytest.LogCaptureFixture) -> None:
    """Jobs that print nothing for minutes are ordinary; nothing of a log is lost either way."""
    caplog.set_level(logging.WARNING)

    async def main() -> None:
        world = FakeWorld()
        await put(world, "shared", id="job", command=["run", "900", "0", "2"])
        world.troubles["containers.attach"] = raises(AWAY, times=1)
        async with alive(world):
            await until(lambda: newest(world, "job"), limit_s=1200)
        receipt = newest(world, "job")
        assert receipt is not None
        assert 2 == receipt.log.lines

    run_virtual(main())
    told = [(it.message, getattr(it, "reason", "")) for it in caplog.records]
    assert [("reading a log begins again", str(AWAY))] == told
