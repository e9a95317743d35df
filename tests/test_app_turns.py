"""Whose turn it is where queues change, go, or give back what may not run yet."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import msgspec

from tests.fakes.faults import hangs
from tests.fakes.files import A_THIRD, say
from tests.fakes.queue import FakeQueue
from tests.fakes.scenes import alive, ended, now, put, until
from tests.fakes.world import FakeWorld, configuration
from tests.virtual_time import run_virtual

LONG = ["run", "100", "0", "1"]


def test_a_queue_that_left_a_job_behind_gives_nobody_else_a_long_turn() -> None:
    """Its file went while no runner ran. As if it had work for ever, who comes late would be taken for served least."""

    async def main() -> tuple[int, int]:
        world = FakeWorld()
        share = {"cpus": 0.9}
        await put(world, "shared", id="left", command=["run", "100000", "0", "1"], resources={"cpus": 0.1})
        world.troubles["results.get"] = hangs
        async with alive(world, killed=True):
            await until(lambda: world.journal.entries)
        world.troubles.clear()
        file = world.shown.pop()
        assert file.credential is not None
        rights = msgspec.structs.replace(file.credential.rights, weight=1.0)
        credential = msgspec.structs.replace(file.credential, url="fake:late", rights=rights)
        world.queues["late"] = FakeQueue("late", world.true_now)
        world.shown.append(msgspec.structs.replace(file, file="late", credential=credential))
        async with alive(world, configuration(max_jobs=3)):
            for number in range(400):
                await put(world, "own", id=f"own-{number}", command=["run", "10", "0", "1"], resources=share)
            await asyncio.sleep(1000)
            before = _ended_of(world, "own")
            for number in range(400):
                await put(world, "late", id=f"late-{number}", command=["run", "10", "0", "1"], resources=share)
            await asyncio.sleep(300)
            return _ended_of(world, "own") - before, _ended_of(world, "late")

    own, late = run_virtual(main())
    assert own + late > 50
    assert abs(own - late) < 10


def _ended_of(world: FakeWorld, queue: str) -> int:
    return sum(receipt.queue == queue for receipt in world.results.receipts.values())


def test_a_queue_is_left_alone_after_a_release_also_where_a_fetch_was_under_way() -> None:
    """What was given back is for other boxes, and so is what comes meanwhile."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world, configuration(patience=60)):
            big = {"gpus": 2, "cpus": 0.5}
            await put(world, "own", id="holder", resources=big, command=["run", "2500", "0", "1"])
            await until(lambda: world.containers.containers)
            await put(world, "shared", id="big", resources=big)
            message = world.queues["shared"].messages["shared-0"]
            await until(lambda: message.note.releases == 1)
            released_at = now()
            await asyncio.sleep(30)
            await put(world, "shared", id="small", resources={"cpus": 0.5})
            await until(lambda: ended(world, "small"))
            assert now() - released_at > 60

    run_virtual(main())


def test_a_weight_that_grew_counts_for_what_was_served_before_too() -> None:
    """Else a queue pays for each second at its old weight for days, though its file says otherwise now."""

    async def main() -> tuple[int, int]:
        world = FakeWorld()
        heavy = world.shown[1]
        assert heavy.credential is not None
        say(world, "light", rights=msgspec.structs.replace(heavy.credential.rights, weight=0.001))
        async with alive(world, configuration(max_jobs=1)):
            for number in range(200):
                await put(world, "shared", id=f"shared-{number}", command=["run", "10", "0", "1"])
            await until(lambda: ended(world, "shared-3"))
            for number in range(300):
                await put(world, "own", id=f"own-{number}", command=["run", "10", "0", "1"])
            await asyncio.sleep(100)
            say(world, "heavy", rights=heavy.credential.rights)
            await asyncio.sleep(50)
            before = _ended_of(world, "own"), _ended_of(world, "shared")
            await asyncio.sleep(900)
            return _ended_of(world, "own") - before[0], _ended_of(world, "shared") - before[1]

    own, shared = run_virtual(main())
    assert 1.5 < shared / own < 2.6, (own, shared)


def test_what_is_over_a_cap_comes_back_bit_by_bit() -> None:
    """Else each of them is claimed, journaled and given back again and again, for as long as the cap holds."""

    async def main() -> tuple[int, float]:
        world = FakeWorld()
        shared = world.shown[1].credential
        assert shared is not None
        say(world, "capped", rights=msgspec.structs.replace(shared.rights, user_max_running=1))
        async with alive(world):
            for number in range(300):
                await put(world, "shared", id=f"job-{number}", user="ada", command=LONG, resources=A_THIRD)
            await until(lambda: now() > 320)
            starts = sorted(receipt.started_at or 0.0 for receipt in world.results.receipts.values())
            return world.queues["shared"].claims, max(later - earlier for earlier, later in pairwise(starts))

    claims, pause_s = run_virtual(main())
    assert claims < 300 + 320 / 0.25
    assert pause_s < 100 + 20 + 1, "the cap was free for longer than it takes a message to come back"
