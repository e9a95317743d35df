"""GPUs over troubles and restarts: never granted twice, never kept by what has ended, never refused for being ill."""

from __future__ import annotations

import asyncio

from runner.control import RunningControl
from runner.errors import Unavailable
from runner.job import EndReason
from tests.fakes.faults import hangs, raises
from tests.fakes.scenes import alive, ended, newest, now, put, reason, until, why
from tests.fakes.world import FakeWorld
from tests.virtual_time import run_virtual

HALF = {"gpus": 1, "cpus": 0.5}


def test_an_ill_gpu_makes_a_job_wait() -> None:
    """It may recover, or a person mends it; a job that this box can run when well is not refused for good."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            await until(lambda: now() > 5)
            world.probe.ill = {"GPU-1"}
            await asyncio.sleep(15)
            await put(world, "own", id="both", resources={"gpus": 2, "cpus": 0.3})
            await put(world, "own", id="one", resources={"gpus": 1, "cpus": 0.3})
            await until(lambda: ended(world, "one"), limit_s=60)
            await asyncio.sleep(300)
            assert newest(world, "both") is None
            assert why(world, "both") == "needs 2 GPUs, 1 is free"
            world.probe.ill = set()
            await until(lambda: ended(world, "both"), limit_s=60)
        assert [reason(world, "one"), reason(world, "both")] == ["succeeded", "succeeded"]

    run_virtual(main())


def test_a_gpu_in_the_hands_of_another_runner_is_waited_for() -> None:
    """Two runners on one machine never grant one card; the sentence names the reason, and no lock is left."""

    async def main() -> None:
        world = FakeWorld()
        world.probe.held_elsewhere = {"GPU-1"}
        await put(world, "own", id="both", resources={"gpus": 2, "cpus": 0.3})
        async with alive(world):
            await asyncio.sleep(100)
            assert why(world, "both") == "its GPU is held by another runner of this machine"
            assert not world.probe.locked
            world.probe.held_elsewhere = set()
            await until(lambda: ended(world, "both"), limit_s=60)
            await asyncio.sleep(5)
            assert not world.probe.locked

    run_virtual(main())


def test_where_containers_get_no_gpu_their_jobs_go_to_the_next_box_and_others_run() -> None:
    """A way out of them is open here, and the box refuses that: the reason names it, and another box is told."""

    async def main() -> None:
        world = FakeWorld()
        world.withheld = "no container gets a GPU while a known way out is open (CVE-2025-23266)"
        async with alive(world):
            await put(world, "shared", id="shared", image="cuda", resources=HALF)
            await put(world, "own", id="own", image="cuda", resources=HALF)
            await put(world, "own", id="process", resources=HALF)
            await until(lambda: ended(world, "own", "process"), limit_s=60)
            (message,) = world.queues["shared"].messages.values()
            await until(lambda: message.note.refused_by == ("box-1",), limit_s=60)
            told = newest(world, "own")
            assert told is not None
            assert "CVE-2025-23266" in told.message
        assert [reason(world, job) for job in ("own", "process", "shared")] == ["rejected", "succeeded", None]

    run_virtual(main())


def test_an_ended_job_that_is_taken_back_holds_no_gpu() -> None:
    """After a restart its outputs are uploaded still; the GPUs went back when its container did."""

    async def main() -> None:
        world = FakeWorld()
        both = {"gpus": 2, "cpus": 0.5}
        outputs = [{"path": "o", "url": "folder:///r"}]
        await put(world, "own", id="uploads", command=["run", "5", "0", "1"], resources=both, outputs=outputs)
        world.troubles["store.put"] = hangs
        async with alive(world, killed=True):
            await until(lambda: any(entry.exited for entry in world.journal.entries.values()))
        async with alive(world) as runner:
            await asyncio.sleep(5)
            assert [None, None] == [gpu.job for gpu in (await RunningControl(runner).gpus()).gpus]
            begun_at = now()
            await put(world, "own", id="next", resources=HALF)
            await until(lambda: ended(world, "next"))
            assert now() - begun_at < 15
            assert not ended(world, "uploads")
            del world.troubles["store.put"]
            await until(lambda: ended(world, "uploads"))
        receipt = newest(world, "uploads")
        assert receipt is not None
        assert (receipt.end_reason, receipt.grant.gpus) == ("succeeded", ("GPU-0", "GPU-1"))

    run_virtual(main())


def test_what_runs_is_taken_back_before_anything_that_waits_is_granted_its_gpu() -> None:
    """The journal was slow to answer and the GPUs were known already; the job that waits had been claimed first."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world, killed=True):
            await put(world, "own", id="first", command=["run", "10", "0", "1"], resources=HALF)
            await until(lambda: world.containers.starts)
            await put(world, "own", id="waits", resources={"gpus": 2, "cpus": 0.5})
            await until(lambda: len(world.journal.entries) == 2)
            await put(world, "own", id="runs", command=["run", "100", "0", "1"], resources=HALF)
            await until(lambda: len(world.containers.starts) == 2)
            await until(lambda: ended(world, "first"))
        world.troubles["journal.in_flight"] = raises(Unavailable("busy"))
        async with alive(world):
            await asyncio.sleep(5)
            world.troubles.clear()
            await until(lambda: ended(world, "runs", "waits"))
        assert set(world.containers.starts.values()) == {1}
        assert {reason(world, job_id) for job_id in ("first", "runs", "waits")} == {EndReason.SUCCEEDED}

    run_virtual(main())
