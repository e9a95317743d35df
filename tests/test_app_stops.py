"""Stops that come at a bad moment: each ends the job for the reason it was given, once."""

from __future__ import annotations

import asyncio

import pytest

from runner.app import drain
from runner.control import RunningControl
from runner.errors import OutOfSpace, Unavailable
from runner.job import EndReason, Key
from runner.messages import StopJob
from runner.ports import ContainerSpec
from runner.receipt import Receipt
from tests.fakes.faults import Trouble, raises
from tests.fakes.scenes import alive, ended, newest, now, put, until
from tests.fakes.world import FakeWorld, key_of
from tests.virtual_time import run_virtual

LONG = ["run", "5000", "0", "1"]
AWAY = Unavailable("the engine does not answer")


def receipt(world: FakeWorld, job_id: str) -> Receipt:
    found = newest(world, job_id)
    assert found is not None, f"{job_id} has no receipt"
    return found


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
        assert (receipt(world, "job").end_reason, receipt(world, "job").exit_code) == (how, 143)

    run_virtual(main())


async def slow(_spec: ContainerSpec) -> None:
    """Is the trouble of a start that takes a while, and then works."""
    await asyncio.sleep(20)


@pytest.mark.parametrize(("trouble", "code"), [(slow, 143), (raises(AWAY), None), (raises(OutOfSpace("full")), None)])
def test_a_job_that_is_cancelled_as_it_is_started_is_cancelled(trouble: Trouble, code: int | None) -> None:
    """Whether the start works after all or not: it neither failed, nor is it the box's fault and tried again."""

    async def main() -> None:
        world = FakeWorld()
        world.troubles["containers.start"] = trouble
        await put(world, "own", id="job", command=LONG, retries=3)
        async with alive(world) as runner:
            await until(lambda: any(entry.starting for entry in world.journal.entries.values()))
            await RunningControl(runner).cancel("job")
            await until(lambda: ended(world, "job"), limit_s=40)
        told = receipt(world, "job")
        assert (told.end_reason, told.exit_code, told.attempt, told.verdict) == ("cancelled", code, 1, "ack")
        assert list(world.queues["own"].final.values()) == [1]
        assert not world.containers.containers

    run_virtual(main())


def test_what_a_start_began_that_failed_is_gone_with_a_cancelled_job() -> None:
    """The engine answered too late: what runs unseen is removed before anything is told."""

    async def main() -> None:
        world = FakeWorld()

        async def begun_unseen(spec: ContainerSpec) -> None:
            await world.containers.start(spec)
            raise AWAY

        world.troubles["containers.start"] = begun_unseen
        await put(world, "own", id="job", command=LONG)
        async with alive(world) as runner:
            await until(lambda: world.containers.containers)
            await RunningControl(runner).cancel("job")
            await until(lambda: newest(world, "job"), limit_s=40)
            assert not world.containers.containers
        assert (receipt(world, "job").end_reason, sum(world.containers.starts.values())) == ("cancelled", 1)

    run_virtual(main())


def test_what_an_earlier_life_began_has_its_grace_however_early_it_is_cancelled() -> None:
    """Before it is taken back, and while the runtime is away: it is found again first, and its last lines count."""

    async def main() -> None:
        world = FakeWorld()
        world.containers.stopping_s, world.containers.code_when_stopped = 5.0, 3
        await put(world, "own", id="job", command=["run", "5000", "0", "5000"])
        async with alive(world, killed=True):
            await until(lambda: world.containers.containers)
            await asyncio.sleep(10)
        world.troubles["containers.start"] = raises(AWAY, times=5)
        async with alive(world) as runner:
            await RunningControl(runner).cancel("job")
            await until(lambda: ended(world, "job"), limit_s=100)
        told = receipt(world, "job")
        assert (told.end_reason, told.exit_code, told.attempt) == ("cancelled", 3, 1)
        assert told.log.lines > 10

    run_virtual(main())


def test_a_lost_claim_stores_nothing_of_a_job_that_could_not_be_started() -> None:
    """Another box has it, and may have started it."""

    async def main() -> None:
        world = FakeWorld()
        world.troubles["containers.start"] = raises(AWAY)
        await put(world, "own", id="job", command=LONG)
        async with alive(world) as runner:
            await until(lambda: any(entry.starting for entry in world.journal.entries.values()))
            tell_all(runner.stages, key_of(world, "job"), EndReason.LEASE_LOST, world.now())
            await until(lambda: world.journal.entries[key_of(world, "job")].stored, limit_s=40)
            assert newest(world, "job") is None

    run_virtual(main())


def tell_all(stages: tuple[object, ...], key: Key, reason: EndReason, at: float) -> None:
    for stage in stages:
        stage.urgent(StopJob(key, 1, reason, at))  # type: ignore[attr-defined]


@pytest.mark.parametrize("stopping_s", [0.0, 8.0])
def test_a_stop_that_is_heard_of_in_two_ways_is_one(stopping_s: float) -> None:
    """The control socket tells the stages, the poller reads the mark: one end, and no mark that ends the next job."""

    async def main() -> None:
        world = FakeWorld()
        world.containers.stopping_s = stopping_s
        await put(world, "own", id="job", command=LONG, stop_grace="30s")
        async with alive(world) as runner:
            await until(lambda: world.containers.containers)
            await world.results.request_stop("job")
            for _ in range(3):
                await RunningControl(runner).cancel("job")
            begun = now()
            await until(lambda: ended(world, "job"), limit_s=60)
            assert now() - begun < stopping_s + 5
            await put(world, "own", id="job", command=["run", "40", "0", "1"])
            await until(lambda: sum(world.queues["own"].final.values()) == 2, limit_s=200)
        reasons = [told.end_reason for told in world.results.receipts.values()]
        assert sorted(map(str, reasons)) == ["cancelled", "succeeded"]
        assert not await world.results.stops()

    run_virtual(main())


def test_a_mark_from_elsewhere_is_heard_soon_however_long_the_lease_is() -> None:
    """Whoever cancels from another machine has no other way, and a GPU is not kept busy for them for minutes."""

    async def main() -> None:
        world = FakeWorld()
        world.queues["shared"].lease_s = 3600.0
        await put(world, "shared", id="job", command=LONG)
        async with alive(world):
            await until(lambda: world.containers.containers)
            await world.results.request_stop("job")
            await until(lambda: ended(world, "job"), limit_s=15)
        assert receipt(world, "job").end_reason == "cancelled"

    run_virtual(main())


def test_the_first_of_two_reasons_stands() -> None:
    """A drain stops what a user has cancelled already, and the user's word counts: it is not tried again."""

    async def main() -> None:
        world = FakeWorld()
        world.containers.stopping_s = 8.0
        await put(world, "shared", id="job", command=LONG)
        async with alive(world) as runner:
            await until(lambda: world.containers.containers)
            await RunningControl(runner).cancel("job")
            await drain(runner, asyncio.Event(), 1.0)
        assert (receipt(world, "job").end_reason, receipt(world, "job").verdict) == ("cancelled", "ack")

    run_virtual(main())


def test_a_job_that_is_claimed_as_it_is_cancelled_is_found() -> None:
    """It is in the journal no longer a moment before, and in its queue no longer a moment after."""

    async def main() -> None:
        world = FakeWorld()

        async def claimed_first(_job_id: str) -> None:
            await until(lambda: world.journal.entries)

        world.troubles["queue.withdraw"] = claimed_first
        async with alive(world) as runner:
            await until(runner.directory.all)
            cancelling = asyncio.ensure_future(RunningControl(runner).cancel("job"))
            await asyncio.sleep(0)
            await put(world, "own", id="job", command=LONG)
            assert await cancelling == "job is being stopped on this box"
            await until(lambda: ended(world, "job"), limit_s=60)
        assert receipt(world, "job").end_reason == "cancelled"

    run_virtual(main())


def test_a_stop_mark_that_comes_too_late_ends_no_later_job_of_the_same_id() -> None:
    """The job was stored, and its mark cleared, while the next was being set."""

    async def main() -> None:
        world = FakeWorld()

        async def late(_job_id: str) -> None:
            await until(lambda: ended(world, "job"))
            await asyncio.sleep(5)

        world.troubles["results.request_stop"] = late
        await put(world, "own", id="job", command=["run", "5", "0", "1"])
        async with alive(world) as runner:
            await until(lambda: world.containers.containers)
            await RunningControl(runner).cancel("job")
            assert not await world.results.stops()
            await put(world, "own", id="job", command=["run", "5", "0", "1"])
            await until(lambda: len(world.results.receipts) == 2, limit_s=100)
        assert {told.end_reason for told in world.results.receipts.values()} == {"succeeded"}

    run_virtual(main())


@pytest.mark.parametrize("how", ["cancelled", "timeout", "disk_full"])
def test_a_job_that_fills_the_disk_of_the_journal_is_stopped_all_the_same(how: str) -> None:
    """No record can be written before what it wrote is deleted: the journal is waited for, but not for ever."""

    async def main() -> None:
        world = FakeWorld()
        limits = {"timeout": "20s"} if how == "timeout" else {}
        await put(world, "shared", id="job", command=["run", "5000", "0", "5000"], **limits)

        async def full(*_args: object) -> None:
            if world.containers.containers:
                raise OutOfSpace("the disk is full")

        async with alive(world) as runner:
            await until(lambda: world.containers.containers)
            await asyncio.sleep(5)
            world.troubles["journal.append"] = full
            if how == "disk_full":
                world.troubles["spool.append"] = full
            if how == "cancelled":
                await RunningControl(runner).cancel("job")
            await until(lambda: newest(world, "job"), limit_s=120)
        assert receipt(world, "job").end_reason == how
        assert world.containers.starts[f"{key_of(world, 'job')}.1"] == 1

    run_virtual(main())


def test_a_job_that_ended_by_itself_is_kept_until_the_journal_has_its_end() -> None:
    """Its exit code stands nowhere else: whoever starts the runner again on a full disk must not start the job."""

    async def main() -> None:
        world = FakeWorld()
        await put(world, "shared", id="job", command=["run", "20", "3", "1"])
        async with alive(world, killed=True):
            await until(lambda: world.containers.containers)
            world.troubles["journal.append"] = raises(OutOfSpace("the disk is full"))
            await asyncio.sleep(600)
            assert world.containers.containers
        world.troubles.clear()
        async with alive(world):
            await until(lambda: newest(world, "job"), limit_s=120)
        assert (receipt(world, "job").exit_code, world.containers.starts[f"{key_of(world, 'job')}.1"]) == (3, 1)

    run_virtual(main())
