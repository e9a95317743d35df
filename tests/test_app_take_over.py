"""A credential file that is renamed, or says another lease or way to its service, while jobs of it run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from runner.app import Runner, build, drain
from runner.broken_files import FINISHING
from runner.control import RunningControl
from runner.job import Verdict
from runner.leaving import WITHDRAWN
from runner.receipt import SourceRow
from runner.units import Duration
from tests.fakes.files import A_THIRD, begun, check, done, row, say, say_endpoint
from tests.fakes.scenes import alive, ended, newest, put, stop_fetching, until
from tests.fakes.world import FakeWorld, configuration, key_of, new_life
from tests.virtual_time import run_virtual

AT_ONCE_S = 4.0
"""A second, and a small job from its claim to its receipt."""


def rename(world: FakeWorld) -> None:
    world.shown[1] = msgspec.structs.replace(world.shown[1], file="renamed")


def say_lease(world: FakeWorld) -> None:
    say(world, "lease", lease=Duration(30))


def say_both_at_once(world: FakeWorld) -> None:
    rename(world)
    say_lease(world)


CHANGES = pytest.mark.parametrize("change", [rename, say_lease, say_endpoint, say_both_at_once])
Change = Callable[[FakeWorld], None]


async def rows(runner: Runner) -> list[SourceRow]:
    return [it for it in await RunningControl(runner).sources() if it.file != "own"]


@CHANGES
def test_a_changed_file_is_read_at_once_though_a_job_of_the_old_one_runs(change: Change) -> None:
    """Else one long job keeps its queue shut."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world) as runner:
            await begun(world)
            change(world)
            await asyncio.sleep(30)
            await done(world, "shared", "new", limit_s=AT_ONCE_S)
            assert not ended(world, "runs")
            await until(lambda: ended(world, "runs"))
            check(world, "runs")
            check(world, "new")
            await until(lambda: world.ledger.open["queue shared"] == 1, limit_s=60)
            (left,) = await rows(runner)
            assert (left.state, left.queues[0].state) == ("in use", "polling")

    run_virtual(main())


@pytest.mark.parametrize(
    ("change", "end"), [(rename, "succeeded"), (say_lease, "succeeded"), (say_both_at_once, "cancelled")]
)
def test_a_job_is_not_cancelled_for_a_new_name_of_its_file(change: Change, end: str) -> None:
    """Where files that are taken away cancel what runs; another name with another content is another file."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world, configuration(on_removed="cancel")):
            await begun(world)
            change(world)
            await until(lambda: ended(world, "runs"))
            check(world, "runs", end)

    run_virtual(main())


@CHANGES
def test_a_job_that_the_last_fetch_of_the_old_one_brings_runs_with_the_new_one(change: Change) -> None:
    """A long poll is never cut off; what it brings goes back, and is fetched anew at once."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            await done(world, "shared", "earlier")
            await begun(world)
            await asyncio.sleep(1)
            change(world)
            await asyncio.sleep(6)
            assert world.queues["shared"].closed == 0
            await done(world, "shared", "new", limit_s=AT_ONCE_S)
            assert Verdict.RELEASE in world.queues["shared"].settled.values()
            await until(lambda: ended(world, "runs"))
            check(world, "runs")
            check(world, "new")

    run_virtual(main())


@CHANGES
def test_a_job_that_was_taken_over_can_be_cancelled(change: Change) -> None:
    """From elsewhere: by a mark that its poller reads."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            await begun(world)
            change(world)
            await done(world, "shared", "new", limit_s=30)
            await world.results.request_stop("runs")
            await until(lambda: ended(world, "runs"), limit_s=30)
            check(world, "runs", "cancelled")

    run_virtual(main())


def test_a_job_that_waits_can_be_cancelled_while_its_queue_is_taken_over() -> None:
    """Who is asked then answers as soon as it can: the job is not unknown."""

    async def main() -> None:
        world = FakeWorld()
        world.queues["shared"].closing_s = 3.0
        async with alive(world) as runner:
            await begun(world)
            rename(world)
            await until(lambda: world.queues["shared"].closing, limit_s=30)
            await put(world, "shared", id="waits")
            assert await RunningControl(runner).cancel("waits") == f"waits is {WITHDRAWN}"
            await until(lambda: ended(world, "waits", "runs"))
            check(world, "runs")
            assert world.containers.starts[f"{key_of(world, 'waits')}.1"] == 0

    run_virtual(main())


@CHANGES
@pytest.mark.parametrize("after_s", [0.1, 5.3, 5.6, 19.0, 26.0])
def test_a_runner_that_is_killed_while_one_takes_over_doubles_and_loses_nothing(change: Change, after_s: float) -> None:
    async def main() -> None:
        world = FakeWorld()
        async with alive(world, killed=True):
            await begun(world)
            change(world)
            await asyncio.sleep(after_s)
        async with alive(world) as runner:
            await done(world, "shared", "new", limit_s=30)
            await until(lambda: ended(world, "runs"))
            check(world, "runs")
            check(world, "new")
            assert [it.file for it in await rows(runner)] == [world.shown[1].file]

    run_virtual(main())


@CHANGES
def test_a_runner_that_is_killed_at_any_call_of_it_doubles_and_loses_nothing(change: Change) -> None:
    async def main() -> None:
        for calls_left in range(1, 60, 12):
            world, life = FakeWorld(), new_life(1)
            running = asyncio.ensure_future(build(configuration(), world.open(life)).run())
            await begun(world)
            change(world)
            await asyncio.sleep(4)
            life.calls_left = calls_left
            await asyncio.wait_for(life.killed.wait(), 60)
            running.cancel()
            await asyncio.wait({running})
            async with alive(world):
                await done(world, "shared", "new", limit_s=100)
                await until(lambda: ended(world, "runs"))  # noqa: B023 - waited for here
                check(world, "runs")
                check(world, "new")

    run_virtual(main())


@pytest.mark.slow
@CHANGES
def test_a_runner_that_drains_at_any_moment_of_it_settles_all(change: Change) -> None:
    """Whoever has the queue just then, somebody has it."""

    async def main() -> None:
        for tenths in range(0, 260, 13):
            world = FakeWorld()
            async with alive(world) as runner:
                await begun(world)
                await put(world, "shared", id="second", command=["run", "6", "0", "1"], resources=A_THIRD)
                change(world)
                await asyncio.sleep(tenths / 10)
                stop_fetching(runner)
                await drain(runner, asyncio.Event(), 1000.0)
                check(world, "runs")

    run_virtual(main())


def test_the_log_of_a_job_that_was_taken_over_goes_on_over_the_new_connection() -> None:
    """The old one would stand, with secrets that may be changed by now, until the job ends."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            await put(world, "shared", id="runs", command=["run", "300", "0", "300"], resources=A_THIRD)
            await until(lambda: world.containers.containers)
            rename(world)
            await until(lambda: world.ledger.opened["results shared"] == 2, limit_s=30)
            await until(lambda: world.ledger.open["results shared"] == 1, limit_s=30)
            assert not ended(world, "runs")
            await until(lambda: ended(world, "runs"))
            receipt = newest(world, "runs")
            assert receipt is not None
            told = [line for line in world.results.lines[key_of(world, "runs")].values() if line.stream == "stdout"]
            assert len(told) == receipt.log.lines == 300

    run_virtual(main())


@CHANGES
def test_jobs_whose_claims_end_with_a_connection_are_waited_for(change: Change) -> None:
    """As where a user of RabbitMQ may make no queues: the message would go to another box while its job runs."""

    async def main() -> None:
        world = FakeWorld()
        world.queues["shared"].ends_claims = True
        async with alive(world) as runner:
            await begun(world)
            change(world)
            await asyncio.sleep(40)
            whose = "what shared said before" if world.shown[1].file == "shared" else "credential file shared"
            waits = f"waiting for 1 running job of {whose}, whose claims end with their connection"
            assert (await row(runner, world.shown[1].file)).queues[0].state == waits
            await until(lambda: ended(world, "runs"))
            await done(world, "shared", "new", limit_s=30)
            check(world, "runs")
            check(world, "new")

    run_virtual(main())


def test_names_that_go_to_and_fro_leave_one_reader() -> None:
    async def main() -> None:
        world = FakeWorld()
        first = world.shown[1]
        async with alive(world) as runner:
            await begun(world)
            for number in range(40):
                world.shown[1] = first
                if number % 2:
                    rename(world)
                await asyncio.sleep(number / 3)
            await done(world, "shared", "new", limit_s=30)
            await until(lambda: ended(world, "runs"))
            check(world, "runs")
            await until(lambda: world.ledger.open["queue shared"] == 1, limit_s=60)
            assert [it.file for it in await rows(runner)] == [world.shown[1].file]

    run_virtual(main())


def test_a_file_whose_results_go_elsewhere_waits_for_the_jobs_of_the_old_one_and_says_so() -> None:
    """Whoever follows them looks for their end where they were submitted."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world) as runner:
            await begun(world)
            assert world.shown[1].credential is not None
            rights = msgspec.structs.replace(world.shown[1].credential.rights, results="folder:///elsewhere")
            say(world, "results", rights=rights)
            await asyncio.sleep(40)
            shared = await row(runner)
            waits = "waiting for 1 running job of what shared said before, whose results are told elsewhere"
            assert (shared.state, shared.queues[0].state, shared.warning) == ("in use", waits, FINISHING)
            await until(lambda: ended(world, "runs"))
            await done(world, "shared", "new", limit_s=30)
            await until(lambda: world.ledger.open["broker shared"] == 1, limit_s=30)
            assert (await row(runner)).warning == ""

    run_virtual(main())
