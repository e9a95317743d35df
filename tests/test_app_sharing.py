"""Who may go: what fits, what waits and for how long, on fakes in virtual time."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

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


def test_the_next_is_staged_ahead_also_where_only_a_count_keeps_it_waiting() -> None:
    async def main() -> None:
        world = FakeWorld()
        async with alive(world, configuration(max_jobs=1)):
            for job_id in ("runs", "next", "third"):
                await put(world, "own", id=job_id, command=["run", "60", "0", "1"])
            await until(lambda: any(entry.staged and not entry.granted for entry in world.journal.entries.values()))
            assert now() < 30
            waiting = [entry for entry in world.journal.entries.values() if entry.placed and not entry.granted]
            assert len(waiting) == 1

    run_virtual(main())


def test_whom_only_the_cap_of_its_user_keeps_waiting_is_not_staged_ahead() -> None:
    """Others pass it, and one of them could be staged instead."""

    async def main() -> None:
        world = FakeWorld()
        _capped(world, 0, 1)
        async with alive(world, configuration(max_jobs=1)):
            for job_id in ("runs", "next", "third"):
                await put(world, "own", id=job_id, user="ada", command=["run", "60", "0", "1"])
            await until(lambda: len(world.containers.containers) == 1)
            await asyncio.sleep(20)
            assert [entry.claimed.claim.id for entry in world.journal.entries.values() if entry.placed] == ["runs"]

    run_virtual(main())


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


def _capped(world: FakeWorld, index: int, most: int) -> None:
    """Let users of a queue have so many jobs running."""
    file = world.shown[index]
    assert file.credential is not None
    rights = msgspec.structs.replace(file.credential.rights, user_max_running=most)
    world.shown[index] = msgspec.structs.replace(
        file, credential=msgspec.structs.replace(file.credential, rights=rights)
    )


def test_a_job_over_its_users_cap_makes_way_for_others() -> None:
    """A shared queue that hands out first come, first served: what is over the cap is released, and counted nowhere."""

    async def main() -> None:
        world = FakeWorld()
        _capped(world, 1, 1)
        async with alive(world):
            half = {"cpus": 0.5}
            for number in range(6):
                await put(world, "shared", id=f"a{number}", user="ada", resources=half, command=["run", "30", "0", "1"])
            await put(world, "shared", id="b", user="bob", resources=half)
            await until(lambda: ended(world, "b"))
            assert now() < 15
            messages = world.queues["shared"].messages
            assert why(world, "a1") == ""
            assert {messages[f"shared-{number}"].note.releases for number in range(6)} == {0}
            assert "its user has 1 jobs running" in messages["shared-1"].note.last_reason
            await until(lambda: ended(world, *(f"a{number}" for number in range(6))))
        assert world.containers.most_at_once == 2
        assert {world.containers.starts[f"{key_of(world, f'a{number}')}.1"] for number in range(6)} == {1}

    run_virtual(main())


def test_jobs_over_a_cap_that_cannot_be_given_back_are_passed_by_others() -> None:
    """Each release would count against them: they stay, and no more than the first few are looked at for that."""

    async def main() -> None:
        world = FakeWorld()
        _capped(world, 1, 1)
        world.queues["shared"].release_costs = True
        async with alive(world):
            half = {"cpus": 0.5}
            for number in range(200):
                await put(world, "shared", id=f"a{number}", user="ada", resources=half, command=["run", "30", "0", "1"])
                if number in {20, 150}:
                    await put(world, "shared", id=f"b{number}", user="bob", resources=half)
            await until(lambda: ended(world, "b20"))
            assert now() < 20
            await asyncio.sleep(60)
            assert world.queues["shared"].claims < 80, "leases are hoarded"
        assert {message.note.releases for message in world.queues["shared"].messages.values()} == {0}

    run_virtual(main())


def test_where_messages_are_held_by_user_a_cap_claims_nothing_in_vain() -> None:
    """The queue is told whom to pass over, and soon hears that there is room again."""

    async def main() -> None:
        world = FakeWorld()
        _capped(world, 1, 1)
        queue = world.queues["shared"]
        queue.by_user = True
        async with alive(world):
            half = {"cpus": 0.5}
            for number in range(3):
                await put(world, "shared", id=f"a{number}", user="ada", resources=half, command=["run", "30", "0", "1"])
            await put(world, "shared", id="b", user="bob", resources=half)
            await until(lambda: ended(world, "b", "a0", "a1", "a2"))
            assert now() < 3 * 30 + 10
        assert queue.claims == 4

    run_virtual(main())


@pytest.mark.slow
def test_nobody_waits_longer_than_their_turn_behind_a_thousand_jobs_of_one() -> None:
    """Two hundred users on one queue, one of them with a thousand jobs: each begins before anybody has three more."""

    async def main() -> list[tuple[float, str]]:
        world = FakeWorld()
        world.queues["shared"].by_user = True
        users = [f"user-{number}" for number in range(199)]
        async with alive(world):
            for number in range(1000):
                await put(world, "shared", id=f"greedy-{number}", user="greedy", command=["run", "2", "0", "1"])
            await until(lambda: ended(world, "greedy-0"))
            for user in users:
                await put(world, "shared", id=f"{user}.1", user=user, command=["run", "2", "0", "1"])
            await until(lambda: ended(world, *(f"{user}.1" for user in users)))
        return sorted((receipt.started_at or 0.0, receipt.user) for receipt in world.results.receipts.values())

    began = run_virtual(main())
    first = next(index for index, (_, user) in enumerate(began) if user != "greedy")
    last = max(index for index, (_, user) in enumerate(began) if user != "greedy")
    greedy = sum(user == "greedy" for _, user in began[first:last])
    assert greedy <= 3, f"{greedy} jobs of one user between the first and the last of 199 others"
    assert began[last][0] - began[first][0] < 199 / 2 * 2.0 * 1.5


def test_a_job_whose_release_would_count_against_it_stays_until_it_starts() -> None:
    """A redrive policy gives a message up after so many deliveries: patience must not use them up."""

    async def main() -> None:
        world = FakeWorld()
        world.queues["shared"].release_costs = True
        async with alive(world):
            for number in range(2):
                await put(world, "own", id=f"holder-{number}", command=["run", "250", "0", "1"])
            await until(lambda: len(world.containers.containers) == 2)
            for number in range(2):
                resources = {"gpus": 1, "cpus": 1}
                await put(world, "shared", id=f"big-{number}", resources=resources)
            await until(lambda: ended(world, "big-0", "big-1"))
        assert [message.note.releases for message in world.queues["shared"].messages.values()] == [0, 0]
        assert world.queues["shared"].claims == 2

    run_virtual(main())


def test_who_waits_is_told_the_place_and_whose_turn_comes_first() -> None:
    async def main() -> None:
        world = FakeWorld()
        world.queues["own"].by_user = True
        async with alive(world):
            await put(
                world,
                "own",
                id="holder",
                user="ada",
                resources={"gpus": 2, "cpus": 0.5},
                command=["run", "90", "0", "1"],
            )
            await until(lambda: world.containers.containers)
            one = {"gpus": 1, "cpus": 0.5}
            await put(world, "own", id="a", user="ada", resources=one)
            await until(lambda: len(world.journal.entries) == 2 and why(world, "a"))
            await put(world, "own", id="b", user="bob", resources=one)
            await until(lambda: "its queue" in why(world, "a"))
            assert why(world, "a").startswith("needs 1 GPU, 0 are free: holder has GPU 0, 1 for at most ")
            place = "; it is the second of its queue's 2 waiting jobs on this box: the turn of user bob comes first"
            assert why(world, "a").endswith(place)
            assert why(world, "b").endswith("; it is the first of its queue's 2 waiting jobs on this box")

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
