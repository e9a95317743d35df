"""
What crosses on its way: the end of one attempt and the next one, a claim and a kill, a crash and an offer.
"""

from __future__ import annotations

import asyncio

import pytest

from runner.control import RunningControl
from runner.errors import Refused, Unavailable
from runner.job import Key, Verdict
from runner.receipt import Receipt
from runner.records import GrantRecord, PlaceRecord
from tests.fakes.faults import Trouble, hangs, raises
from tests.fakes.files import A_THIRD, pollers
from tests.fakes.scenes import alive, ended, newest, put, reason, until
from tests.fakes.world import FakeWorld, configuration, key_of
from tests.test_app_cut_off import cut_off
from tests.virtual_time import run_virtual

LONG = ["run", "100", "0", "1"]


async def takes_30_s(*_args: object, **_kwargs: object) -> None:
    await asyncio.sleep(30)


def never_stored(job: str) -> Trouble:
    async def trouble(receipt: Receipt) -> None:
        if receipt.id == job:
            await hangs()

    return trouble


# Attempts that follow each other


@pytest.mark.parametrize("first", ["failed", "output_failed"])
def test_an_attempt_is_not_touched_by_what_the_last_one_gives_back_late(first: str) -> None:
    """Deleting a workspace may take longer than the pause before the next attempt."""

    async def main() -> None:
        world = FakeWorld()
        world.troubles["workspaces.remove"] = takes_30_s
        fails = first == "failed"
        if fails:
            await put(world, "shared", id="job", command=["run", "100", "1", "1"], retries=1)
        else:
            world.troubles["store.put"] = raises(Unavailable("away"))
            await put(world, "shared", id="job", command=LONG, outputs=[{"path": "o", "url": "folder:///r"}])
        async with alive(world, configuration(keep_workspaces=0, output_patience=10)):
            await until(lambda: newest(world, "job") is not None)
            world.troubles.pop("store.put", None)
            await until(lambda: ended(world, "job"))
            ends = [(receipt.end_reason, receipt.attempt) for receipt in world.results.receipts.values()]
            assert [(first, 1), ("failed" if fails else "succeeded", 2)] == ends
            await asyncio.sleep(60)

    run_virtual(main())


def test_a_lost_job_that_comes_back_at_once_is_not_touched_by_what_is_left_of_it() -> None:
    """It has the same attempt, and so the workspace of the same name that is being deleted."""

    async def main() -> None:
        world = FakeWorld()
        queue = world.queues["shared"]
        await put(world, "shared", id="job", command=LONG)
        async with alive(world):
            await until(lambda: world.containers.containers)
            world.troubles["workspaces.remove"] = takes_30_s
            message = queue.messages["shared-0"]
            message.token = ""
            other = queue.claim(message)
            await until(lambda: world.journal.entries[key_of(world, "job")].stored)
            await queue.settle(other.token, Verdict.RELEASE, after_s=0, note=other.note, reason="")
            await until(lambda: ended(world, "job"))
        assert reason(world, "job") == "succeeded"

    run_virtual(main())


def test_a_poller_that_crashes_as_an_attempt_is_cleared_away_costs_the_next_one_nothing() -> None:
    """It settles what the journal says at once, though something of that attempt is left on the box."""

    async def main() -> None:
        world = FakeWorld()
        world.troubles["workspaces.remove"] = takes_30_s
        await put(world, "shared", id="job", command=["run", "100", "1", "1"], retries=1)
        async with alive(world, configuration(keep_workspaces=0)) as runner:
            await until(lambda: newest(world, "job") is not None)
            world.troubles["queue.depth"] = raises(ZeroDivisionError("a bug"))
            await until(lambda: any(child.restarts for child in runner.children()))
            del world.troubles["queue.depth"]
            await until(lambda: ended(world, "job"))
        assert [(it.end_reason, it.attempt) for it in world.results.receipts.values()] == [("failed", 1), ("failed", 2)]

    run_virtual(main())


# Claims and kills


@pytest.mark.parametrize("how", ["expired", "cancelled"])
def test_what_was_not_to_run_when_it_was_claimed_does_not_run_in_the_next_life_either(how: str) -> None:
    async def main() -> None:
        world = FakeWorld()
        await put(world, "shared", id="job", **({"expires": "10s"} if how == "expired" else {}))
        await asyncio.sleep(20)
        if how == "cancelled":
            await world.results.request_stop("job")
        world.troubles["results.get"] = hangs
        async with alive(world, killed=True):
            await until(lambda: world.journal.entries)
        world.troubles.clear()
        async with alive(world):
            await until(lambda: ended(world, "job"), limit_s=200)
        assert (reason(world, "job"), world.containers.starts) == (how, {})

    run_virtual(main())


def test_what_is_cut_off_is_stopped_also_where_the_runner_begins_anew_meanwhile() -> None:
    """The queue cannot be opened, so nobody knows its claims but the journal; on its return the job is done."""

    async def main() -> None:
        world = FakeWorld()
        cut_off(world, "stop")
        await put(world, "shared", id="job", command=["run", "3000", "0", "1"])
        async with alive(world, killed=True):
            await until(lambda: world.containers.containers)
        world.troubles |= dict.fromkeys(("queue.renew", "queue.fetch", "broker.open"), raises(Unavailable("away")))
        async with alive(world):
            await asyncio.sleep(30)
            assert world.containers.containers
            await asyncio.sleep(world.queues["shared"].lease_s)
            assert not world.containers.containers
            world.troubles.clear()
            await until(lambda: ended(world, "job"))
        assert reason(world, "job") == "succeeded"
        assert world.queues["shared"].final == {"shared-0": 1}

    run_virtual(main())


def test_what_was_cut_off_and_stopped_is_done_once_its_queue_is_back() -> None:
    async def main() -> None:
        world = FakeWorld()
        cut_off(world, "stop")
        await put(world, "shared", id="job", command=["run", "300", "0", "1"])
        async with alive(world):
            await until(lambda: world.containers.containers)
            world.troubles |= dict.fromkeys(("queue.renew", "queue.fetch"), raises(Unavailable("away")))
            await until(lambda: not world.containers.containers, limit_s=200)
            world.troubles.clear()
            await until(lambda: ended(world, "job"))
        assert reason(world, "job") == "succeeded"
        assert world.queues["shared"].final == {"shared-0": 1}

    run_virtual(main())


@pytest.mark.parametrize("call", ["results.stops", "journal.entry"])
def test_a_job_whose_claim_took_long_to_write_down_is_not_taken_for_cut_off(call: str) -> None:
    """A hang of what stands beside the queue: the claim was renewed for it, or is not waited with for so long."""

    async def hangs_once(*_args: object, **_kwargs: object) -> None:
        del world.troubles[call]
        await hangs()

    async def main() -> None:
        cut_off(world, "stop")
        await put(world, "shared", id="job", command=["run", "200", "0", "1"])
        async with alive(world):
            world.troubles[call] = hangs_once
            await until(lambda: ended(world, "job"))
        assert set(world.containers.starts.values()) == {1}
        assert world.queues["shared"].claims == 1

    world = FakeWorld()
    run_virtual(main())


@pytest.mark.parametrize("call", ["settle", "renew"])
def test_a_queue_that_refuses_one_call_for_a_while_stops_nothing_else(call: str) -> None:
    """Rights that were taken away are given back: what ended is settled then, and its poller never crashed over it."""

    async def main() -> None:
        world = FakeWorld()
        await put(world, "shared", id="job", command=["run", "30", "0", "1"])
        async with alive(world) as runner:
            await until(lambda: world.containers.containers)
            world.troubles[f"queue.{call}"] = raises(Refused("no rights"))
            await asyncio.sleep(50)
            await put(world, "shared", id="next", resources=A_THIRD)
            await until(lambda: call == "renew" or ended(world, "next"))
            assert {child.restarts for child in runner.children()} == {0}
            world.troubles.clear()
            await until(lambda: not world.waiting(), limit_s=200)
        assert set(world.containers.starts.values()) == {1}
        assert set(world.queues["shared"].final.values()) == {1}

    run_virtual(main())


# Offers


def test_a_claim_that_its_poller_crashed_over_is_told_of_again() -> None:
    """It stands in the journal and is renewed for ever: somebody must run it."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world) as runner:
            await until(lambda: pollers(runner) == {"shared"}, limit_s=6)
            world.troubles["results.get"] = takes_30_s
            world.troubles["queue.depth"] = raises(ZeroDivisionError("a bug"))
            await put(world, "shared", id="job")
            await put(world, "shared", id="unreadable", resources="many")
            await until(lambda: len(world.journal.entries) == 1)
            await until(lambda: any(child.restarts for child in runner.children()))
            world.troubles.clear()
            await until(lambda: not world.waiting(), limit_s=300)
        assert set(world.containers.starts.values()) == {1}

    run_virtual(main())


# Grants and stops


def test_a_grant_that_comes_after_the_stop_starts_nothing_later() -> None:
    """The job is lost while its grant is journaled, and comes back as the same attempt: it has no place by then."""

    async def main() -> None:
        world = FakeWorld()
        queue, whole = world.queues["shared"], {"cpus": 2}

        async def late(_key: Key, record: object) -> None:
            await asyncio.sleep(50 if isinstance(record, GrantRecord) and world.containers.starts else 0)

        world.troubles |= {"journal.append": late, "store.get": takes_30_s}
        await put(world, "shared", id="long", command=["run", "10", "0", "1"], resources=whole)
        await put(world, "shared", id="job", resources=whole, inputs=[{"path": "x", "url": "folder:///data"}])
        for number in range(4):
            await put(world, "shared", id=f"next-{number}", command=LONG, resources=whole)
        async with alive(world):
            await until(lambda: any(entry.placed and not entry.granted for entry in world.journal.entries.values()))
            message = queue.messages["shared-1"]
            message.token = ""
            other = queue.claim(message)
            await until(lambda: world.journal.entries[key_of(world, "job")].stored)
            assert not world.journal.entries[key_of(world, "job")].granted
            await until(lambda: world.journal.entries[key_of(world, "job")].granted)
            world.troubles.clear()
            await queue.settle(other.token, Verdict.RELEASE, after_s=0, note=other.note, reason="")
            await until(lambda: not world.waiting())
        assert world.containers.most_at_once == 1
        assert reason(world, "job") == "succeeded"

    run_virtual(main())


def test_a_grant_that_a_kill_left_without_its_place_starts_nothing() -> None:
    """The journal has the grant and not the disk: the job is offered anew, and its cards are in other hands by then."""

    async def main() -> None:
        world = FakeWorld()

        async def cut_off(_key: Key, record: object) -> None:
            if isinstance(record, PlaceRecord):
                await hangs()

        world.troubles["journal.append"] = cut_off
        await put(world, "shared", id="job", resources={"gpus": 2, "cpus": 0.5})
        async with alive(world, killed=True):
            await until(lambda: any(entry.granted for entry in world.journal.entries.values()))
        world.troubles.clear()
        world.probe.held_elsewhere = {"GPU-1"}
        async with alive(world, configuration(patience=5000)):
            await until(lambda: world.journal.entries[key_of(world, "job")].staged)
            await asyncio.sleep(30)
            assert not world.containers.starts
            world.probe.held_elsewhere = set()
            await until(lambda: ended(world, "job"))
        assert reason(world, "job") == "succeeded"

    run_virtual(main())


def test_a_job_that_ended_while_it_waited_is_given_no_place_any_more() -> None:
    """Its end may take as long to store as a broker is away; others have its turn."""

    async def main() -> None:
        world = FakeWorld()
        whole = {"cpus": 2}
        for job in ("long", "job", "next"):
            await put(world, "shared", id=job, command=LONG, resources=whole)
        async with alive(world) as runner:
            await until(lambda: any(entry.staged and not entry.granted for entry in world.journal.entries.values()))
            world.troubles["results.put_receipt"] = never_stored("job")
            await RunningControl(runner).cancel("job")
            await until(lambda: ended(world, "long", "next"), limit_s=300)
            assert not world.journal.entries[key_of(world, "job")].granted
            world.troubles.clear()
        assert not ended(world, "job")

    run_virtual(main())
