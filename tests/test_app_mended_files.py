"""A credential file that was wrong, or went wrong, and is mended while jobs of it run."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from runner.app import drain
from runner.broken_files import FINISHING
from runner.errors import ConfigurationError, Refused, RunnerError, Unavailable
from runner.job import Verdict
from tests.fakes.faults import raises
from tests.fakes.files import A_THIRD, LONG, SOON_S, begun, behind, check, done, row, say, say_endpoint
from tests.fakes.queue import FakeQueue
from tests.fakes.scenes import alive, ended, put, stop_fetching, until
from tests.fakes.world import FakeWorld, key_of
from tests.virtual_time import run_virtual


@pytest.mark.parametrize("error", [Unavailable("its address is gone"), ConfigurationError("its password is gone")])
def test_a_log_leaves_a_connection_that_is_of_no_use_any_more(error: RunnerError) -> None:
    """A file is changed because of just that, and then the old connection never takes a line again."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            await put(world, "shared", id="runs", command=["run", "300", "0", "300"], resources=A_THIRD)
            await until(lambda: world.containers.containers)
            for sink in world.sinks:
                sink.broken = error
            await asyncio.sleep(20)
            say_endpoint(world)
            await until(lambda: len(world.results.lines[key_of(world, "runs")]) > 100, limit_s=150)
            await until(lambda: world.ledger.open["broker shared"] == 1, limit_s=100)
            assert not ended(world, "runs")

    run_virtual(main())


def test_sources_that_crash_know_afterwards_which_content_is_the_new_one() -> None:
    async def main() -> None:
        world = FakeWorld()
        world.queues["other"] = FakeQueue("other", world.now)
        async with alive(world) as runner:
            await begun(world)
            say(world, "elsewhere", url="fake:other")
            await done(world, "other", "before", limit_s=SOON_S)
            world.troubles["credentials.scan"] = raises(OSError(5, "Input/output error"), times=1)
            await asyncio.sleep(30)
            shared = await row(runner)
            assert (shared.state, [it.name for it in shared.queues], shared.warning) == ("in use", ["other"], FINISHING)
            await done(world, "other", "after", limit_s=SOON_S)
            await until(lambda: ended(world, "runs"))
            check(world, "runs")
            await until(lambda: not world.ledger.open["broker shared"], limit_s=60)

    run_virtual(main())


def test_a_mistake_that_was_mended_is_forgotten_while_jobs_run() -> None:
    """On a busy queue some job always runs: it would be tried for ever."""

    async def main() -> None:
        world = FakeWorld()
        world.nowhere.add("http://mistyped")
        async with alive(world) as runner:
            await begun(world)
            say(world, "mistyped", options={"endpoint": "http://mistyped"})
            await asyncio.sleep(20)
            say_endpoint(world)
            await done(world, "shared", "new", limit_s=2 * SOON_S)
            await until(lambda: world.ledger.open["broker shared"] == 1, limit_s=80)
            assert (await row(runner)).warning == ""
            assert not ended(world, "runs")
            await until(lambda: ended(world, "runs"))
            check(world, "runs")

    run_virtual(main())


def test_a_file_that_is_mended_during_a_drain_is_used_once_the_last_fetch_is_over() -> None:
    """What it said before may be out of reach by then."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world) as runner:
            await done(world, "shared", "earlier")
            await begun(world)
            await asyncio.sleep(1)
            stop_fetching(runner)
            say_endpoint(world)
            await asyncio.sleep(40)
            (entry,) = (it for it in runner.directory.all() if it.name == "shared")
            assert entry.poller.name == "poller shared%20(2) shared"
            await drain(runner, asyncio.Event(), 1000.0)
            check(world, "runs")

    run_virtual(main())


def test_a_file_that_cannot_be_opened_leaves_what_it_said_before() -> None:
    """What runs is renewed and settled as before, and the queue is read."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            await begun(world)
            world.troubles["broker.open"] = raises(Refused("no such user"))
            say_endpoint(world)
            await until(lambda: ended(world, "runs"))
            check(world, "runs")
            world.troubles.clear()
            await done(world, "shared", "new")

    run_virtual(main())


def test_a_change_that_cannot_be_opened_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The directory is looked at every few seconds, for as long as nobody mends the file."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world) as runner:
            await begun(world)
            world.unusable["http://other"] = ConfigurationError("ca_file: no such file")
            say_endpoint(world)
            await asyncio.sleep(60)
            assert (await row(runner)).reason == "as it was before: ca_file: no such file"
            told = [it for it in caplog.records if it.message == "a credential file cannot be used"]
            assert len(told) == 1
            world.unusable.clear()
            await asyncio.sleep(SOON_S)
            assert (await row(runner)).reason == ""

    run_virtual(main())


def test_a_queue_is_taken_over_from_one_that_cannot_give_back_what_it_fetched_last() -> None:
    """That lapses by itself."""

    async def releases_nothing(_token: str, verdict: Verdict, **_about: object) -> None:
        if verdict is Verdict.RELEASE:
            raise Unavailable("its address is gone")

    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            await done(world, "shared", "earlier")
            await begun(world)
            await asyncio.sleep(1)
            world.troubles["queue.settle"] = releases_nothing
            say_endpoint(world)
            await asyncio.sleep(6)
            await done(world, "shared", "new", limit_s=100)
            assert not ended(world, "runs")

    run_virtual(main())


def test_a_file_whose_results_go_elsewhere_waits_for_logs_of_the_old_one_and_says_so() -> None:
    async def main() -> None:
        world = FakeWorld()
        async with alive(world) as runner:
            await begun(world)
            for sink in world.sinks:
                sink.broken = Unavailable("it is away")
            assert world.shown[1].credential is not None
            rights = msgspec.structs.replace(world.shown[1].credential.rights, results="folder:///elsewhere")
            say(world, "results", rights=rights)
            await until(lambda: ended(world, "runs"))
            await asyncio.sleep(20)
            waits = "waiting for the last logs of what shared said before, whose results are told elsewhere"
            assert [it.state for it in (await row(runner)).queues] == [waits]
            for sink in world.sinks:
                sink.broken = None
            await done(world, "shared", "new", limit_s=30)

    run_virtual(main())


def test_queues_are_told_apart_whatever_they_and_their_files_are_called() -> None:
    """Where producers make queues, a name with a space in it must not stop the others being read."""

    async def main() -> None:
        world = FakeWorld()
        behind(world, "shared", "(2) shared")
        async with alive(world) as runner:
            await put(world, "(2) shared", id="runs", command=LONG, resources=A_THIRD)
            await until(lambda: world.containers.containers)
            say_endpoint(world)
            await done(world, "shared", "new", limit_s=2 * SOON_S)
            await done(world, "(2) shared", "beside", limit_s=30)
            assert {child.name: child.restarts for child in runner.children()}["sources"] == 0
            await until(lambda: ended(world, "runs"))

    run_virtual(main())
