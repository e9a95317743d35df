"""Credential files that come, change and go under a runner at work, and the queues behind them."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from runner.app import Runner
from runner.broken_files import FINISHING
from runner.control import RunningControl
from runner.errors import ConfigurationError, Unavailable
from tests.fakes.faults import raises
from tests.fakes.files import A_THIRD, LONG, behind, done, polled, pollers, row, say
from tests.fakes.queue import FakeQueue
from tests.fakes.scenes import alive, ended, now, put, reason, until
from tests.fakes.world import FakeWorld, configuration
from tests.virtual_time import run_virtual

# Queues behind a file


def test_queues_that_appear_behind_a_file_are_found() -> None:
    async def main() -> None:
        world = FakeWorld()
        behind(world)
        async with alive(world) as runner:
            await until(lambda: "poller own own" in {child.name for child in runner.children()})
            assert await polled(runner) == {}
            behind(world, "train")
            await until(lambda: pollers(runner) == {"train"}, limit_s=6)
            behind(world, "train", "score")
            await done(world, "score", "job", limit_s=12)

    run_virtual(main())


def test_only_queues_that_box_and_file_want_are_read() -> None:
    """Each may say which, and which not; a queue is read where all four agree."""

    async def main() -> None:
        world = FakeWorld()
        behind(world, "train", "train-old", "train-eu", "score", "train-box")
        say(world, "patterns", match="^train", mismatch="old$")
        async with alive(world, configuration(queue_match="rain|own", queue_mismatch="-box$")) as runner:
            await until(lambda: pollers(runner) == {"train", "train-eu"}, limit_s=6)
            await asyncio.sleep(30)
            assert pollers(runner) == {"train", "train-eu"}

    run_virtual(main())


def test_patterns_that_change_begin_and_end_queues_and_leave_the_others_alone() -> None:
    async def main() -> None:
        world = FakeWorld()
        behind(world, "a", "b", "c")
        say(world, "first", match="a|b")
        async with alive(world) as runner:
            await until(lambda: pollers(runner) == {"a", "b"}, limit_s=6)
            await put(world, "a", id="runs", command=LONG, resources=A_THIRD)
            await until(lambda: world.containers.containers)
            say(world, "second", match="b|c")
            await done(world, "c", "new", limit_s=12)
            assert await polled(runner) == {"a": "finishing", "b": "polling", "c": "polling"}
            assert {child.restarts for child in runner.children()} == {0}
            await until(lambda: ended(world, "runs"))
            await until(lambda: pollers(runner) == {"b", "c"}, limit_s=12)
            assert (world.queues["a"].closed, world.queues["b"].closed) == (1, 0)

    run_virtual(main())


def test_a_queue_that_is_gone_twice_is_let_go_and_one_that_comes_back_is_read_on() -> None:
    """A listing may leave a queue out once: a service that has just started knows few."""

    async def main() -> None:
        world = FakeWorld()
        behind(world, "train", "score")
        async with alive(world) as runner:
            await until(lambda: pollers(runner) == {"train", "score"}, limit_s=6)
            behind(world, "score")
            await asyncio.sleep(5)
            behind(world, "train", "score")
            await asyncio.sleep(11)
            assert world.queues["train"].closed == 0
            behind(world, "score")
            await until(lambda: pollers(runner) == {"score"}, limit_s=40)
            assert world.queues["train"].closed == 1
            behind(world, "train", "score")
            await done(world, "train", "back")

    run_virtual(main())


def test_a_queue_that_is_gone_is_kept_as_long_as_a_job_of_it_runs() -> None:
    """Its verdict is carried out where it was claimed."""

    async def main() -> None:
        world = FakeWorld()
        behind(world, "train", "score")
        async with alive(world) as runner:
            await put(world, "train", id="runs", command=LONG, resources=A_THIRD)
            await until(lambda: world.containers.containers)
            behind(world, "score")
            await asyncio.sleep(60)
            assert await polled(runner) == {"train": "finishing", "score": "polling"}
            behind(world, "score", "train")
            await done(world, "train", "beside")
            behind(world, "score")
            await until(lambda: ended(world, "runs"))
            await until(lambda: pollers(runner) == {"score"}, limit_s=40)
        assert set(world.queues["train"].final.values()) == {1}

    run_virtual(main())


def test_a_listing_that_fails_lets_no_queue_go() -> None:
    """A service that is away has all its queues still."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world) as runner:
            await until(lambda: pollers(runner) == {"shared"}, limit_s=6)
            world.troubles["broker.queues"] = raises(Unavailable("no answer"))
            await asyncio.sleep(300)
            assert ((await row(runner)).state, pollers(runner)) == ("unreachable", {"shared"})
            await done(world, "shared", "meanwhile")

    run_virtual(main())


def test_results_that_refuse_the_login_are_told_before_a_job_needs_them() -> None:
    """Else its jobs end, and nobody hears of it: their outputs and receipts are tried again and again."""

    async def main() -> None:
        world = FakeWorld()
        world.troubles["results.stops"] = raises(ConfigurationError("redis://h:6379/1: check username and password"))
        async with alive(world) as runner:
            await until_warned(runner, "its results are out of reach: redis://h:6379/1: check username and password")
            del world.troubles["results.stops"]
            await until_warned(runner, "")

    async def until_warned(runner: Runner, warning: str) -> None:
        async with asyncio.timeout(60):
            while [it.warning for row in await RunningControl(runner).sources() for it in row.queues] != [warning] * 2:
                await asyncio.sleep(1)

    run_virtual(main())


def test_what_a_queue_warns_of_is_told_with_it() -> None:
    async def main() -> None:
        world = FakeWorld()
        world.queues["shared"].warning = "a job may run twice: this user may not declare queues"
        loose = "shared is open to other users (mode 0644): chmod 600 shared"
        world.shown[1] = msgspec.structs.replace(world.shown[1], warning=loose)
        async with alive(world) as runner:
            await until(lambda: pollers(runner) == {"shared"}, limit_s=6)
            await asyncio.sleep(1)
            shared = await row(runner)
            assert (shared.warning, shared.state) == (loose, "in use")
            assert [queue.warning for queue in shared.queues] == [world.queues["shared"].warning]

    run_virtual(main())


# Files that go


@pytest.mark.parametrize(("on_removed", "end"), [("finish", "succeeded"), ("cancel", "cancelled")])
def test_what_runs_when_its_file_is_taken_away_is_finished_or_cancelled(on_removed: str, end: str) -> None:
    """As it is configured; either way it is stored, settled where it was claimed, and then all is closed."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world, configuration(on_removed=on_removed)) as runner:
            await put(world, "own", id="other", command=LONG, resources=A_THIRD)
            await put(world, "shared", id="runs", command=LONG, resources=A_THIRD)
            await until(lambda: len(world.containers.containers) == 2)
            begun = now()
            world.shown.pop()
            await until(lambda: ended(world, "runs"))
            assert (reason(world, "runs"), now() - begun < 60) == (end, on_removed == "cancel")
            await until(lambda: not world.ledger.open["broker shared"], limit_s=60)
            assert set(world.queues["shared"].final.values()) == {1}
            assert not ended(world, "other") or on_removed == "finish"
            assert [row.file for row in await RunningControl(runner).sources()] == ["own"]
        assert world.queues["shared"].closed == 1

    run_virtual(main())


def test_a_file_that_points_elsewhere_cancels_nothing() -> None:
    """Only one that is taken away does; what it says now is read beside what runs still."""

    async def main() -> None:
        world = FakeWorld()
        world.queues["other"] = FakeQueue("other", world.now)
        async with alive(world, configuration(on_removed="cancel")) as runner:
            await put(world, "shared", id="runs", command=LONG, resources=A_THIRD)
            await until(lambda: world.containers.containers)
            say(world, "elsewhere", url="fake:other")
            await asyncio.sleep(60)
            shared = await row(runner)
            assert (shared.state, shared.warning) == ("in use", FINISHING)
            await done(world, "other", "new")
            assert not ended(world, "runs")
            await until(lambda: ended(world, "runs"))
            assert reason(world, "runs") == "succeeded"

    run_virtual(main())


def test_a_job_of_a_file_that_goes_while_its_service_is_away_is_cancelled_on_its_return() -> None:
    async def main() -> None:
        world = FakeWorld()
        async with alive(world, configuration(on_removed="cancel"), killed=True):
            await put(world, "shared", id="runs", command=["run", "3000", "0", "1"], resources=A_THIRD)
            await until(lambda: world.containers.containers)
        world.troubles["broker.open"] = raises(Unavailable("away"))
        async with alive(world, configuration(on_removed="cancel")) as runner:
            await until(lambda: pollers(runner) == {"shared"}, limit_s=20)
            world.shown.pop()
            await asyncio.sleep(60)
            assert not ended(world, "runs")
            del world.troubles["broker.open"]
            await until(lambda: ended(world, "runs"), limit_s=120)
            assert reason(world, "runs") == "cancelled"

    run_virtual(main())
