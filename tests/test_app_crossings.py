"""What crosses on its way: the end of one attempt and the begin of the next, claims and kills, files and their names."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from runner.errors import Refused, Unavailable
from runner.job import EndReason, Verdict
from tests.fakes.faults import hangs, raises
from tests.fakes.files import A_THIRD, LONG, behind, done, pollers, say
from tests.fakes.scenes import alive, ended, newest, now, put, reason, until
from tests.fakes.world import FakeWorld, configuration, key_of
from tests.test_app_cut_off import cut_off
from tests.virtual_time import run_virtual


async def takes_30_s(*_args: object, **_kwargs: object) -> None:
    await asyncio.sleep(30)


@pytest.mark.parametrize("what", ["failed", "box"])
def test_an_attempt_begins_while_the_workspace_of_the_last_one_is_being_deleted(what: str) -> None:
    async def main() -> None:
        world = FakeWorld()
        world.troubles["workspaces.remove"] = takes_30_s
        if what == "box":
            world.troubles["store.put"] = raises(Unavailable("away"))
            await put(world, "shared", id="job", command=["run", "100", "0", "1"], outputs=[{"path": "o", "url": "folder:///r"}])
        else:
            await put(world, "shared", id="job", command=["run", "100", "1", "1"], retries=1)
        async with alive(world, configuration(keep_workspaces=0, output_patience=10)):
            await until(lambda: newest(world, "job") is not None)
            world.troubles.pop("store.put", None)
            await until(lambda: ended(world, "job"))
            assert [(r.end_reason, r.attempt) for r in world.results.receipts.values()] == [
                ("output_failed" if what == "box" else "failed", 1), ("succeeded" if what == "box" else "failed", 2)]
            await asyncio.sleep(60)

    run_virtual(main())


def test_a_lost_job_comes_back_while_its_workspace_is_being_deleted() -> None:
    async def main() -> None:
        world = FakeWorld()
        queue = world.queues["shared"]
        await put(world, "shared", id="job", command=["run", "100", "0", "1"])
        async with alive(world):
            await until(lambda: world.containers.containers)
            world.troubles["workspaces.remove"] = takes_30_s
            message = queue.messages["shared-0"]
            message.token = ""
            other = queue.claim(message)
            await until(lambda: world.journal.entries[key_of(world, "job")].settled)
            await queue.settle(other.token, Verdict.RELEASE, after_s=0, note=other.note, reason="")
            await until(lambda: ended(world, "job"))
            assert reason(world, "job") == "succeeded"

    run_virtual(main())


def test_expired_when_claimed_and_killed() -> None:
    async def main() -> None:
        world = FakeWorld()
        await put(world, "shared", id="job", expires="10s")
        await asyncio.sleep(20)
        world.troubles["results.stops"] = hangs
        world.troubles["results.get"] = hangs
        async with alive(world, killed=True):
            await until(lambda: world.journal.entries)
        world.troubles.clear()
        async with alive(world):
            await until(lambda: ended(world, "job"), limit_s=200)
        assert reason(world, "job") == "expired"
        assert not world.containers.starts

    run_virtual(main())


def test_stop_marked_and_killed() -> None:
    async def main() -> None:
        world = FakeWorld()
        await world.results.request_stop("job")
        await put(world, "shared", id="job")
        world.troubles["results.get"] = hangs
        async with alive(world, killed=True):
            await until(lambda: world.journal.entries)
        world.troubles.clear()
        async with alive(world):
            await until(lambda: ended(world, "job"), limit_s=200)
        assert reason(world, "job") == "cancelled"
        assert not world.containers.starts

    run_virtual(main())


def test_cut_off_stop_restart_while_away() -> None:
    async def main() -> None:
        world = FakeWorld()
        cut_off(world, "stop")
        await put(world, "shared", id="job", command=["run", "3000", "0", "1"])
        async with alive(world, killed=True):
            await until(lambda: world.containers.containers)
        world.troubles |= dict.fromkeys(("queue.renew", "queue.fetch", "broker.open"), raises(Unavailable("away")))
        async with alive(world):
            await asyncio.sleep(world.queues["shared"].lease_s + 30)
            assert not world.containers.containers
            world.troubles.clear()
            await until(lambda: ended(world, "job"), limit_s=4000)
        assert reason(world, "job") == "succeeded"

    run_virtual(main())


def test_cut_off_stop_then_back() -> None:
    async def main() -> None:
        world = FakeWorld()
        cut_off(world, "stop")
        await put(world, "shared", id="job", command=["run", "300", "0", "1"])
        async with alive(world):
            await until(lambda: world.containers.containers)
            world.troubles |= dict.fromkeys(("queue.renew", "queue.fetch"), raises(Unavailable("away")))
            await until(lambda: not world.containers.containers, limit_s=200)
            world.troubles.clear()
            await until(lambda: ended(world, "job"), limit_s=4000)
        assert reason(world, "job") == "succeeded"
        assert set(world.queues["shared"].final.values()) == {1}

    run_virtual(main())


def test_settlement_refused_for_a_while() -> None:
    async def main() -> None:
        world = FakeWorld()
        await put(world, "shared", id="job")
        await put(world, "shared", id="long", command=["run", "1000", "0", "1"], resources=A_THIRD)
        world.troubles["queue.settle"] = raises(Refused("no rights"))
        async with alive(world) as runner:
            await until(lambda: ended(world, "job"))
            await asyncio.sleep(600)
            print([child for child in runner.children() if "shared" in child.name])
            assert {child.restarts for child in runner.children()} == {0}
            world.troubles.clear()
            await until(lambda: world.queues["shared"].final["shared-0"], limit_s=200)
            await until(lambda: ended(world, "long"))
        assert set(world.queues["shared"].final.values()) == {1}
        assert set(world.containers.starts.values()) == {1}

    run_virtual(main())


def test_a_renamed_file_reads_on() -> None:
    async def main() -> None:
        world = FakeWorld()
        async with alive(world) as runner:
            await put(world, "shared", id="runs", command=["run", "3000", "0", "1"], resources=A_THIRD)
            await until(lambda: world.containers.containers)
            world.shown[1] = msgspec.structs.replace(world.shown[1], file="renamed")
            await done(world, "shared", "new", limit_s=100)

    run_virtual(main())


def test_withdraw_killed_without_results() -> None:
    pass


def test_adopted_job_of_a_queue_that_is_gone_does_not_freeze_the_level() -> None:
    async def main() -> None:
        world = FakeWorld()
        await put(world, "shared", id="gone", command=["run", "100000", "0", "1"], resources={"cpus": 0.1})
        world.troubles["results.get"] = hangs
        async with alive(world, killed=True):
            await until(lambda: world.journal.entries)
        world.troubles.clear()
        file = world.shown.pop()
        say_ = msgspec.structs.replace(file, file="other", credential=msgspec.structs.replace(file.credential, url="fake:other", rights=msgspec.structs.replace(file.credential.rights, weight=1.0)))
        from tests.fakes.queue import FakeQueue
        world.queues["other"] = FakeQueue("other", world.true_now)
        async with alive(world, configuration(max_jobs=3)) as runner:
            world.shown.append(say_)
            for n in range(400):
                await put(world, "own", id=f"own-{n}", command=["run", "10", "0", "1"], resources={"cpus": 0.9})
            await asyncio.sleep(1000)
            for n in range(400):
                await put(world, "other", id=f"other-{n}", command=["run", "10", "0", "1"], resources={"cpus": 0.9})
            before = len([1 for r in world.results.receipts.values() if r.queue == "own"])
            await asyncio.sleep(300)
            own = len([1 for r in world.results.receipts.values() if r.queue == "own"]) - before
            other = len([1 for r in world.results.receipts.values() if r.queue == "other"])
            print(before, own, other)
            assert abs(own - other) < 10

    run_virtual(main())
