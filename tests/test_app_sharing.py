"""Who may go: what fits, what waits and for how long, on fakes in virtual time."""

from __future__ import annotations

import asyncio

import msgspec

from runner.job import EndReason, Verdict
from tests.fakes.scenes import alive, ended, newest, now, put, reason, until, why
from tests.fakes.world import FakeWorld, configuration, key_of
from tests.virtual_time import run_virtual


def test_room_is_used_at_once_though_the_queue_was_too_shallow_to_stage_ahead() -> None:
    """Of two jobs that fill the box one after the other, the second begins within a poll of the first one's end."""

    async def main() -> list[float]:
        world = FakeWorld()
        async with alive(world):
            for job_id in ("first", "second", "third"):
                await put(world, "own", id=job_id, resources={"cpus": 2}, command=["run", "3.3", "0", "1"])
            await until(lambda: ended(world, "first", "second", "third"))
        return sorted((receipt.started_at or 0.0) for receipt in world.results.receipts.values())

    first, second, third = run_virtual(main())
    assert max(second - first, third - second) < 3.3 + 0.4


def test_room_is_not_kept_for_a_queue_that_fell_silent() -> None:
    """Its last job is done and its next fetch waits in vain: another queue's job takes the core that is free."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            await put(world, "shared", id="last", resources={"cpus": 1})
            await until(lambda: ended(world, "last"))
            await put(world, "own", id="long", resources={"cpus": 1}, command=["run", "300", "0", "1"])
            await asyncio.sleep(2)
            await put(world, "own", id="next", resources={"cpus": 1})
            await until(lambda: ended(world, "next"))
        receipt = newest(world, "next")
        assert receipt is not None
        assert (receipt.started_at or 0.0) - (receipt.submitted_at or 0.0) < 2

    run_virtual(main())


def test_a_job_that_does_not_fit_now_never_blocks_a_smaller_one() -> None:
    """Two GPUs are wanted, one is free: the CPU job behind passes, and the sentence names who holds the GPU."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            await put(world, "own", id="holder", resources={"gpus": 1, "cpus": 0.5}, command=["run", "300", "0", "1"])
            await until(lambda: world.containers.containers)
            await put(world, "own", id="big", resources={"gpus": 2, "cpus": 0.5})
            await put(world, "own", id="small", resources={"cpus": 0.5})
            await until(lambda: ended(world, "small"))
            assert now() < 60
            assert why(world, "big").startswith("needs 2 GPUs, 1 is free: holder has GPU 0 for at most")
            await until(lambda: ended(world, "big"))
        assert reason(world, "big") == EndReason.SUCCEEDED

    run_virtual(main())


def test_a_kept_job_is_not_starved_by_smaller_ones() -> None:
    """On the box's own queue it reserves after its patience, so an endless stream of small jobs lets it start."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            for number in range(200):
                await put(world, "own", id=f"small-{number}", command=["run", "10", "0", "1"])
                if number == 3:
                    await put(world, "own", id="wide", resources={"cpus": 2})
            await until(lambda: ended(world, "wide"))
            small = sum(1 for receipt in world.results.receipts.values() if receipt.id.startswith("small"))
            assert small < 40, f"{small} small jobs went first"

    run_virtual(main())


def test_a_shared_queue_gets_its_job_back_after_the_patience() -> None:
    """Nobody hoards leases: released three times untried and unburnt, then kept until it starts."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            await put(world, "own", id="holder", resources={"gpus": 2, "cpus": 0.5}, command=["run", "250", "0", "1"])
            await until(lambda: world.containers.containers)
            await put(world, "shared", id="big", resources={"gpus": 1, "cpus": 0.5})
            message = world.queues["shared"].messages["shared-0"]
            await until(lambda: message.note.releases == 1)
            assert 18 < now() < 30
            await until(lambda: message.note.releases == 3)
            await until(lambda: ended(world, "big"))
            assert message.note.releases == 3
            assert (message.note.attempts, message.note.faults) == (0, 0)
        assert world.containers.starts[f"{key_of(world, 'big')}.1"] == 1

    run_virtual(main())


def test_what_a_shared_box_can_never_run_goes_round_before_it_is_rejected() -> None:
    """Released with a note that this box cannot; back here for the fourth time, it is a dead letter."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            await put(world, "shared", id="huge", resources={"gpus": 3})
            await until(lambda: ended(world, "huge"))
        message = world.queues["shared"].messages["shared-0"]
        assert (message.note.releases, message.note.refused_by) == (3, ("box-1",))
        assert message.gone is Verdict.REJECT
        receipt = newest(world, "huge")
        assert receipt is not None
        assert receipt.message == "this box can never run it: needs 3 GPUs, 2 are here"

    run_virtual(main())


def test_a_user_has_no_more_running_than_the_queue_allows() -> None:
    """A cap in the credential file: others pass while the second job of the same user waits, and says why."""

    async def main() -> None:
        world = FakeWorld()
        own = world.shown[0]
        assert own.credential is not None
        rights = msgspec.structs.replace(own.credential.rights, user_max_running=1)
        capped = msgspec.structs.replace(own, credential=msgspec.structs.replace(own.credential, rights=rights))
        world.shown[0] = capped
        async with alive(world):
            half = {"cpus": 0.5}
            await put(world, "own", id="first", user="ada", resources=half, command=["run", "60", "0", "1"])
            await until(lambda: world.containers.containers)
            await put(world, "own", id="second", user="ada", resources=half)
            await put(world, "own", id="other", user="bob", resources=half)
            await until(lambda: ended(world, "other"))
            assert now() < 30
            assert why(world, "second").startswith("its user has 1 jobs running")
            await until(lambda: ended(world, "second"))
            assert now() > 60

    run_virtual(main())


def test_two_queues_get_their_weighted_share() -> None:
    """With work in both for ever, served seconds go one to two, as their weights say."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world, configuration(max_jobs=1)):
            for number in range(120):
                await put(world, "own", id=f"own-{number}", command=["run", "10", "0", "1"])
                await put(world, "shared", id=f"shared-{number}", command=["run", "10", "0", "1"])
            await asyncio.sleep(900)
            served = {"own": 0, "shared": 0}
            for receipt in world.results.receipts.values():
                served[receipt.queue] += 1
            assert served["own"] > 10
            assert 1.5 < served["shared"] / served["own"] < 2.6, served

    run_virtual(main())
