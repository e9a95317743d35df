"""A box that cannot reach its broker: jobs run on, or are stopped at the end of their lease, as the queue says."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from runner.errors import Unavailable
from runner.job import Verdict
from tests.fakes.faults import raises
from tests.fakes.scenes import alive, ended, put, until
from tests.fakes.world import FakeWorld, key_of
from tests.virtual_time import run_virtual

LONG = ["run", "300", "0", "1"]


def cut_off(world: FakeWorld, what: str) -> None:
    """Say in the credential files what becomes of jobs that are cut off."""
    for index, file in enumerate(world.shown):
        assert file.credential is not None
        rights = msgspec.structs.replace(file.credential.rights, cut_off=what)
        credential = msgspec.structs.replace(file.credential, rights=rights)
        world.shown[index] = msgspec.structs.replace(file, credential=credential)


@pytest.mark.parametrize("what", ["run on", "stop"])
def test_a_job_that_is_cut_off_ends_at_the_end_of_its_lease_where_that_is_said(what: str) -> None:
    async def main() -> None:
        world = FakeWorld()
        cut_off(world, what)
        await put(world, "shared", id="job", command=LONG)
        async with alive(world):
            await until(lambda: world.containers.containers)
            lease_s = world.queues["shared"].lease_s
            await asyncio.sleep(lease_s / 2)
            message = world.queues["shared"].messages["shared-0"]
            world.troubles |= dict.fromkeys(("queue.renew", "queue.fetch"), raises(Unavailable("away")))
            lapses_at = message.claimed_until
            await until(lambda: world.now() > lapses_at - 1, limit_s=2 * lease_s)
            assert world.containers.containers, "it runs as long as the claim is ours"
            await until(lambda: world.now() > lapses_at + 15, limit_s=2 * lease_s)
            assert bool(world.containers.containers) == (what == "run on")
            if what == "run on":
                world.troubles.clear()
                await until(lambda: ended(world, "job"), limit_s=400)
                assert [Verdict.ACK] == list(world.queues["shared"].settled.values())
            else:
                assert {} == world.results.receipts
                assert world.journal.entries[key_of(world, "job")].stored is not None

    run_virtual(main())


def test_a_short_outage_stops_nothing() -> None:
    async def main() -> None:
        world = FakeWorld()
        cut_off(world, "stop")
        await put(world, "shared", id="job", command=LONG)
        async with alive(world):
            await until(lambda: world.containers.containers)
            for _ in range(3):
                world.troubles["queue.renew"] = raises(Unavailable("away"))
                await asyncio.sleep(world.queues["shared"].lease_s / 3)
                del world.troubles["queue.renew"]
                await asyncio.sleep(world.queues["shared"].lease_s)
            await until(lambda: ended(world, "job"), limit_s=400)
        assert world.containers.starts == {f"{key_of(world, 'job')}.1": 1}
        assert [Verdict.ACK] == list(world.queues["shared"].settled.values())

    run_virtual(main())


def test_a_claim_that_was_looked_at_for_long_counts_from_its_renewal() -> None:
    """The box was busy between the fetch and the journal; what was renewed meanwhile is not cut off."""

    async def main() -> None:
        world = FakeWorld()
        cut_off(world, "stop")
        await put(world, "shared", id="job", command=["run", "60", "0", "1"])
        message = world.queues["shared"].messages["shared-0"]
        looks = iter(range(6))

        async def slow(*_: object) -> None:
            if message.token and next(looks, None) is not None:
                await asyncio.sleep(4.0)
                raise Unavailable("busy")

        async with alive(world):
            world.troubles["journal.entry"] = slow
            await until(lambda: world.containers.containers, limit_s=60)
            lapses_at = message.claimed_until
            world.troubles["queue.renew"] = raises(Unavailable("away"))
            await until(lambda: world.now() > lapses_at - 2, limit_s=60)
            world.troubles.clear()
            await until(lambda: ended(world, "job"), limit_s=120)
        assert {f"{key_of(world, 'job')}.1": 1} == world.containers.starts

    run_virtual(main())
