"""What becomes of a job in named situations, on fakes in virtual time: cancelled, expired, silent, sent twice."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from runner.control import RunningControl
from runner.errors import Refused
from runner.job import EndReason, Verdict
from tests.fakes.scenes import alive, ended, newest, now, put, reason, until
from tests.fakes.world import FakeWorld, configuration, key_of
from tests.virtual_time import run_virtual


def test_the_same_id_again_waits_for_the_end_of_the_first() -> None:
    """A resubmission under one id is a new job, after the first."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            await put(world, "own", id="twin", command=["run", "20", "0", "1"])
            await put(world, "own", id="twin", command=["run", "2", "0", "1"])
            await until(lambda: sum(world.queues["own"].final.values()) == 2)
        spans = sorted((receipt.started_at or 0, receipt.ended_at or 0) for receipt in world.results.receipts.values())
        assert len(spans) == 2
        assert spans[0][1] <= spans[1][0], "they overlapped"

    run_virtual(main())


@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.9, 5.0, 30.0])
def test_cancelling_ends_a_job_in_whatever_stage_it_is(seconds: float) -> None:
    """From the queue to the upload: one end, and cancelling again is no error."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world) as runner:
            control = RunningControl(runner)
            await put(world, "own", id="holder", resources={"cpus": 2}, command=["run", "3", "0", "1"])
            await put(world, "own", id="job", command=["run", "20", "0", "1"])
            await asyncio.sleep(seconds)
            told = [await control.cancel("job"), await control.cancel("job")]
            assert all(told)
            await until(lambda: not world.waiting())
            await until(lambda: ended(world, "job"))
            assert reason(world, "job") in {EndReason.CANCELLED, EndReason.SUCCEEDED}
            await until(lambda: all(entry.settled for entry in world.journal.entries.values()))
        assert max(world.queues["own"].final.values()) == 1

    run_virtual(main())


@pytest.mark.parametrize("killed_after_s", [None, 0.0, 0.01, 0.3])
def test_what_waits_in_its_queue_is_cancelled_with_a_receipt(killed_after_s: float | None) -> None:
    """As much is told of it as of a job that a box had: whoever follows it sees its end. Also by the next life."""

    async def main() -> None:
        world, config = FakeWorld(), configuration(max_jobs=1, max_waiting=1)
        async with alive(world, config, killed=killed_after_s is not None) as runner:
            for name in ("runs", "waits", "queued", "last"):
                await put(world, "shared", id=name, command=["run", "100", "0", "1"])
            await asyncio.sleep(5)
            assert world.queues["shared"].messages["shared-3"].token == "", "it is not on the box"
            sentence = await RunningControl(runner).cancel("last")
            assert sentence == "last is withdrawn from its queue, where it waited"
            if killed_after_s is not None:
                await asyncio.sleep(killed_after_s)
            else:
                await until(lambda: ended(world, "last"), 5)
                assert await RunningControl(runner).cancel("last") == "last ended already: cancelled"
        async with alive(world, config):
            await until(lambda: ended(world, "last"), 120)
            await until(lambda: not world.waiting())
        assert (reason(world, "last"), reason(world, "queued")) == (EndReason.CANCELLED, EndReason.SUCCEEDED)
        assert {1} == set(world.queues["shared"].final.values())
        events = world.results.events[key_of(world, "last")]
        assert ["cancelled"] == [event.end_reason for event in events if event.state == "ended"]
        assert not world.results.marks

    run_virtual(main())


def test_a_job_that_nobody_knows_cannot_be_cancelled() -> None:
    async def main() -> None:
        world = FakeWorld()
        async with alive(world) as runner:
            await asyncio.sleep(1)
            with pytest.raises(Refused, match="no job 'nosuch' is known here"):
                await RunningControl(runner).cancel("nosuch")

    run_virtual(main())


def test_a_job_older_than_it_may_become_is_not_started() -> None:
    async def main() -> None:
        world = FakeWorld()
        await put(world, "own", id="old", expires="30s")
        await asyncio.sleep(60)
        async with alive(world):
            await until(lambda: ended(world, "old"))
        assert reason(world, "old") == EndReason.EXPIRED
        assert not world.containers.starts
        assert world.queues["own"].messages["own-0"].gone is Verdict.REJECT

    run_virtual(main())


def test_silence_and_time_end_a_job_with_their_own_reasons() -> None:
    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            await put(world, "own", id="silent", silent_for="20s", command=["run", "900", "0", "0"])
            await put(world, "own", id="slow", timeout="20s", command=["run", "900", "0", "900"])
            await until(lambda: ended(world, "silent", "slow"))
            assert now() < 40
        assert (reason(world, "silent"), reason(world, "slow")) == ("silent", "timeout")

    run_virtual(main())


def test_only_queues_that_match_are_read() -> None:
    async def main() -> None:
        world = FakeWorld()
        async with alive(world, configuration(queue_match="^o", queue_mismatch="x")):
            await put(world, "own", id="read")
            await put(world, "shared", id="unread")
            await until(lambda: ended(world, "read"))
            await asyncio.sleep(30)
            assert newest(world, "unread") is None

    run_virtual(main())


def test_the_runner_remembers_nothing_of_ended_jobs() -> None:
    """A box that is left alone for a year must not fill its memory either: pumps, marks and standings go."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world) as runner:
            for number in range(50):
                gpus = {"gpus": number % 3, "cpus": 0.5}
                await put(world, "own", id=f"job-{number}", command=["run", "1", "0", "2"], resources=gpus)
            await until(lambda: ended(world, *(f"job-{number}" for number in range(50))))
            await asyncio.sleep(200)
            assert not world.probe.locked
            tasks = [task.get_name() for task in asyncio.all_tasks() if "job-" in task.get_name()]
            assert tasks == []
            assert all(counters.depth == counters.urgent_depth == 0 for counters in runner.counters())

    run_virtual(main())


def test_a_receipt_says_what_was_granted_and_how_long_each_stage_took() -> None:
    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            await put(world, "own", id="told", name="n", user="ada", resources={"gpus": 1, "cpus": 0.5})
            await until(lambda: ended(world, "told"))
        receipt = newest(world, "told")
        assert receipt is not None
        assert (receipt.name, receipt.user, receipt.queue, receipt.gpus) == ("n", "ada", "own", ("GPU-0",))
        assert set(receipt.stages) == {"queued", "waiting", "running", "storing"}
        assert receipt.stages["running"] == pytest.approx(3.0)
        assert msgspec.json.decode(msgspec.json.encode(receipt))["key"] == key_of(world, "told")

    run_virtual(main())
