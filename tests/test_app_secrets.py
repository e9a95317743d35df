"""Secrets that change under a runner at work, and services that refuse it."""

from __future__ import annotations

import asyncio
import logging
from itertools import pairwise

import msgspec
import pytest

from runner.app import drain
from runner.control import RunningControl
from runner.credential import Credential
from runner.errors import BadInput, Refused, Unavailable
from runner.ports import Position
from tests.fakes.faults import hangs, raises
from tests.fakes.files import A_THIRD, LONG, SOON_S, behind, check, counted, done, passwords, pollers, row, say, secret
from tests.fakes.scenes import alive, ended, put, reason, stop_fetching, until
from tests.fakes.world import FakeWorld, key_of
from tests.virtual_time import run_virtual


def test_a_changed_secret_goes_to_what_is_open_and_nothing_that_runs_is_touched() -> None:
    async def main() -> None:
        world = FakeWorld()
        behind(world, "a", "b")
        async with alive(world) as runner:
            await until(lambda: pollers(runner) == {"a", "b"}, limit_s=6)
            await put(world, "a", id="runs", command=LONG, resources=A_THIRD)
            await until(lambda: world.containers.containers)
            say(world, "new", secrets=secret("new"))
            await until(lambda: world.changed, limit_s=6)
            await asyncio.sleep(30)
            assert (passwords(world.changed), passwords(world.results.changed)) == (["new"], ["new", "new"])
            assert world.ledger.opened["broker shared"] == world.ledger.opened["queue a"] == 1
            behind(world, "a", "b", "c")
            await until(lambda: pollers(runner) == {"a", "b", "c"}, limit_s=6)
            assert passwords([world.opened_with["c"]]) == ["new"]
            await until(lambda: ended(world, "runs"))
        assert reason(world, "runs") == "succeeded"
        assert world.queues["a"].claims == 1

    run_virtual(main())


def test_new_rights_alone_reach_no_connection() -> None:
    async def main() -> None:
        world = FakeWorld()
        async with alive(world) as runner:
            await until(lambda: pollers(runner) == {"shared"}, limit_s=6)
            assert world.shown[1].credential is not None
            say(world, "new", rights=msgspec.structs.replace(world.shown[1].credential.rights, timeout_s=7.0))
            await asyncio.sleep(6)
            await done(world, "shared", "first", limit_s=12)
            await done(world, "shared", "second", limit_s=12)
            assert world.changed == []
            assert world.journal.entries[key_of(world, "second")].claimed.claim.rights.timeout_s == 7.0

    run_virtual(main())


def test_of_many_changes_the_last_one_holds() -> None:
    """Each may come while the one before is under way, or hangs."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world) as runner:
            await until(lambda: pollers(runner) == {"shared"}, limit_s=6)
            world.troubles["broker.change"] = hangs
            for number in range(5):
                say(world, f"content {number}", secrets=secret(f"password {number}"))
                await asyncio.sleep(7)
            del world.troubles["broker.change"]
            say(world, "content 9", secrets=secret("password 9"))
            await until(lambda: world.changed, limit_s=12)
            await asyncio.sleep(100)
            assert passwords(world.changed) == passwords(world.results.changed) == ["password 9"]

    run_virtual(main())


def test_a_new_secret_reaches_what_could_not_be_opened_before() -> None:
    """The poller tries on with what the file says now, not with what it said when it began."""

    async def main() -> None:
        world = FakeWorld()
        say(world, "old", secrets=secret("old"))
        world.unopenable["shared"] = Refused("wrong password")
        async with alive(world) as runner:
            await until(lambda: pollers(runner) == {"shared"}, limit_s=6)
            await asyncio.sleep(20)
            say(world, "new", secrets=secret("new"))
            await until(lambda: world.changed, limit_s=6)
            world.unopenable.clear()
            await done(world, "shared", "job")
            assert passwords([world.opened_with["shared"]]) == ["new"]

    run_virtual(main())


def test_connections_get_the_secrets_of_a_file_that_changed_while_sources_were_away() -> None:
    async def main() -> None:
        world = FakeWorld()
        async with alive(world) as runner:
            await until(lambda: pollers(runner) == {"shared"}, limit_s=6)
            world.troubles["credentials.scan"] = raises(OSError(5, "Input/output error"), times=1)
            say(world, "new", secrets=secret("new"))
            await until(lambda: world.changed, limit_s=60)
            assert "new" in passwords(world.changed[-1:])

    run_virtual(main())


def test_a_secret_in_an_error_is_in_no_log_event_or_receipt() -> None:
    async def main() -> None:
        world = FakeWorld()
        world.secret = "hunter2"
        world.troubles["containers.start"] = raises(BadInput("there is no hunter2 in the image"))
        async with alive(world):
            await put(world, "shared", id="job", command=LONG, resources=A_THIRD)
            await until(lambda: ended(world, "job"))
            receipt = await world.results.get(key_of(world, "job"))
            lines = await world.spool.read(key_of(world, "job"), Position())
        assert receipt is not None
        assert receipt.message == "there is no ******* in the image"
        said = b"".join(line.data for line in lines)
        assert (b"hunter2" in said, b"there is no ******* in the image" in said) == (False, True)

    run_virtual(main())


# Services that refuse


def test_a_refused_login_is_told_once_and_tried_less_and_less_often(caplog: pytest.LogCaptureFixture) -> None:
    """A wrong password tried every few seconds for ever locks the account, and fills the log."""

    async def main() -> None:
        world = FakeWorld()
        at: list[float] = []
        world.troubles["broker.queues"] = counted(raises(Refused("wrong password for the queues")), at)
        del world.shown[0]
        async with alive(world) as runner:
            await asyncio.sleep(3600)
            assert 50 < len(at) < 140
            pauses = [later - earlier for earlier, later in pairwise(at)]
            assert (max(pauses) <= 60, min(pauses[8:]) >= 29) == (True, True)
            found = next(row for row in await RunningControl(runner).sources())
            assert (found.state, found.reason) == ("refused", "wrong password for the queues")
            assert [it.levelname for it in caplog.records if getattr(it, "action", "") == "list"] == ["ERROR"]
            tried = len(at)
            world.troubles.clear()
            world.shown[0] = msgspec.structs.replace(world.shown[0], content="mended")
            await until(lambda: pollers(runner) == {"shared"}, limit_s=6)
            assert len(at) == tried
            found = next(row for row in await RunningControl(runner).sources())
            assert (found.state, found.reason) == ("in use", "")

    with caplog.at_level(logging.ERROR):
        run_virtual(main())


def test_a_service_whose_only_queue_cannot_be_read_is_told_as_one_that_cannot_be_used(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where a file names one queue, nothing but its poller asks the service for anything."""

    async def main() -> None:
        world = FakeWorld()
        behind(world, "a", "b")
        world.troubles["broker.open"] = raises(Refused("wrong password"))
        async with alive(world) as runner:
            await asyncio.sleep(600)
            found = await row(runner)
            assert (found.state, found.reason) == ("unreachable", "wrong password")
            told = [it for it in caplog.records if getattr(it, "action", "") == "list"]
            assert [it.source for it in told if it.source == "shared"] == ["shared"]  # type: ignore[attr-defined]
            world.troubles.clear()
            await done(world, "b", "job")
            found = await row(runner)
            assert (found.state, found.reason) == ("in use", "")

    with caplog.at_level(logging.ERROR):
        run_virtual(main())


def test_a_secret_that_is_refused_is_told_and_what_runs_goes_on() -> None:
    async def main() -> None:
        world = FakeWorld()
        async with alive(world) as runner:
            await put(world, "shared", id="runs", command=LONG, resources=A_THIRD)
            await until(lambda: world.containers.containers)
            for call in ("change", "queues"):
                world.troubles[f"broker.{call}"] = raises(Refused(f"{call}: wrong password"))
            say(world, "wrong", secrets=secret("wrong"))
            await asyncio.sleep(20)
            assert (await row(runner)).state == "refused"
            await done(world, "own", "others")
            world.troubles.clear()
            say(world, "right", secrets=secret("right"))
            await until(lambda: world.changed, limit_s=6)
            await asyncio.sleep(1)
            assert ((await row(runner)).state, passwords(world.changed)) == ("in use", ["right"])
            await until(lambda: ended(world, "runs"))

    run_virtual(main())


def test_a_queue_that_refuses_its_poller_is_left_alone_for_longer_than_one_that_is_away() -> None:
    async def main() -> None:
        fetches: dict[str, int] = {}
        for error in (Refused("no rights"), Unavailable("away")):
            world, at = FakeWorld(), list[float]()
            del world.shown[0]
            world.troubles["queue.fetch"] = counted(raises(error), at)
            async with alive(world):
                await asyncio.sleep(600)
                fetches[error.code] = len(at)
        assert fetches["refused"] <= 600 / 12 + 1 < 600 / 5 <= fetches["unavailable"]

    run_virtual(main())


# While the runner stops


@pytest.mark.parametrize("options", [{}, {"endpoint": "http://other"}])
def test_a_file_that_is_mended_while_the_runner_drains_lets_it_settle(options: dict[str, str]) -> None:
    """A password that was changed on the service keeps every settlement from being made."""

    async def main() -> None:
        world = FakeWorld()
        world.shown[1] = msgspec.structs.replace(world.shown[1], credential=with_secret(world, "old"))
        for call in ("settle", "renew"):
            world.troubles[f"queue.{call}"] = raises(Refused("wrong password"))
        async with alive(world) as runner:
            await put(world, "shared", id="runs", command=["run", "30", "0", "1"], resources=A_THIRD)
            await until(lambda: world.containers.containers)
            stop_fetching(runner)
            draining = asyncio.ensure_future(drain(runner, asyncio.Event(), 600.0))
            await asyncio.sleep(60)
            assert not draining.done()
            say(world, "mended", secrets=secret("new"), options=options)
            await asyncio.sleep(SOON_S)
            if not options:
                assert passwords(world.changed) == ["new"]
                assert passwords(world.results.changed) == ["new"]
            else:
                assert passwords([world.opened_with["shared"]]) == ["new"]
            assert (await row(runner)).state == "finishing"
            world.troubles.clear()
            await put(world, "shared", id="too late")
            await asyncio.wait_for(draining, 100)
            check(world, "runs")
            assert not ended(world, "too late")

    run_virtual(main())


def with_secret(world: FakeWorld, text: str) -> Credential:
    credential = world.shown[1].credential
    assert credential is not None
    return msgspec.structs.replace(credential, secrets=secret(text))
