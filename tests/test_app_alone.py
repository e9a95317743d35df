"""Jobs that have the box for themselves: what they wait for, what rests meanwhile, and that nobody starves for it."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import Any

import msgspec
import pytest

from runner.app import drain
from runner.control import RunningControl
from runner.errors import Unavailable
from runner.job import EndReason
from runner.records import ExitRecord, GrantRecord, StageRecord, StartRecord, StoreRecord
from tests.fakes.faults import Trouble, hangs, raises
from tests.fakes.scenes import alive, ended, newest, now, put, reason, stop_fetching, until, why
from tests.fakes.solitude import check_solitude
from tests.fakes.world import FakeWorld, configuration, key_of
from tests.virtual_time import run_virtual

IO = {"inputs": [{"path": "x", "url": "folder:///data"}], "outputs": [{"path": "o", "url": "folder:///r"}]}
HALF = {"cpus": 0.5}


def slow(seconds: float) -> Trouble:
    async def trouble(*_args: Any) -> None:
        await asyncio.sleep(seconds)

    return trouble


def lasts(seconds: float) -> list[str]:
    return ["run", f"{seconds:g}", "0", "1"]


def when(world: FakeWorld, job_id: str, kind: type) -> float:
    """Return when a record of a kind was written last."""
    key = key_of(world, job_id)
    return max(at for at, written, record in world.journal.history if written == key and isinstance(record, kind))


def written(world: FakeWorld, job_id: str, kind: type) -> bool:
    ids = {key: entry.claimed.claim.id for key, entry in world.journal.entries.items()}
    return any(ids[key] == job_id and isinstance(record, kind) for _, key, record in world.journal.history)


def test_it_waits_until_the_box_is_empty_and_then_has_it_for_itself() -> None:
    """Who runs and who uploads is waited for; while it runs the others wait, and the runner keeps off its cores."""

    async def main() -> None:
        world = FakeWorld()
        world.troubles["store.put"] = slow(30)
        async with alive(world):
            await put(world, "own", id="short", command=lasts(10), resources=HALF, outputs=IO["outputs"])
            await put(world, "own", id="long", command=lasts(20), resources=HALF)
            await until(lambda: len(world.containers.starts) == 2)
            await put(world, "own", id="alone", exclusive="box", command=lasts(50))
            await until(lambda: now() > 5)
            assert why(world, "alone") == "waits for the box to be empty: 2 jobs run"
            await until(lambda: now() > 15)
            assert why(world, "alone") == "waits for the box to be empty: 1 job runs, 1 job uploads"
            await until(lambda: written(world, "alone", StartRecord), limit_s=60)
            assert when(world, "alone", StageRecord) < 10
            assert 40 <= now() < 45
            await put(world, "own", id="next", resources=HALF)
            await asyncio.sleep(30)
            assert world.kept_off == [(1,)]
            assert next(iter(world.containers.containers.values())).spec.grant.here.cores == (1,)
            await until(lambda: ended(world, "alone", "next"))
            assert world.kept_off == [(1,), ()]
        assert check_solitude(world) == 1

    run_virtual(main())


def test_what_was_fetched_already_learns_who_runs_alone() -> None:
    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            await put(world, "own", id="alone", exclusive="box", command=lasts(100))
            await until(lambda: world.containers.starts)
            await put(world, "shared", id="small")  # the shared queue was being read when it began
            await until(lambda: len(world.journal.entries) == 2)
            await asyncio.sleep(1)
            assert why(world, "small") == "job alone runs alone on this box"
            await put(world, "own", id="unread")
            await until(lambda: ended(world, "alone"))
            assert now() > 100
            await until(lambda: ended(world, "small", "unread"))
            assert when(world, "unread", GrantRecord) > 100

    run_virtual(main())


def test_who_is_being_staged_is_waited_for_and_who_is_staged_is_not() -> None:
    """One waits, staged, for a card in other hands: it does nothing that could be seen."""

    async def main() -> None:
        world = FakeWorld()
        world.probe.held_elsewhere = {"GPU-1"}
        world.troubles["store.get"] = slow(50)
        async with alive(world, configuration(patience=5000)):
            await put(world, "own", id="both", resources={"gpus": 2, "cpus": 0.3}, inputs=IO["inputs"])
            await until(lambda: world.calls["store.head"])
            await put(world, "own", id="alone", exclusive="box", command=lasts(100))
            await until(lambda: now() > 20)
            assert why(world, "alone").startswith("waits for the box to be empty: 1 job stages")
            await until(lambda: ended(world, "alone"))
            assert 49 < when(world, "alone", StartRecord) < 60
            assert not ended(world, "both")
            world.probe.held_elsewhere = set()
            await until(lambda: ended(world, "both"))
        assert check_solitude(world) == 1

    run_virtual(main())


LEASES = {"queue.renew"}
ITS_OWN_LOG = {"containers.attach", "spool.append", "spool.read", "spool.news", "sink.write", "journal.entry"} | {
    "spool.behind",
    "spool.keep_cursor",
}
AGAIN_AFTER_LONG_SILENCE = {"containers.wait", "spool.bytes_written", "sink.open", "results.append", "spool.cursor"}
AS_RARELY = {"results.stops", "results.beat", "credentials.scan", "workspaces.free_bytes"}


def test_nothing_but_leases_its_own_log_and_few_signs_of_life_go_on_beside_it() -> None:
    """The sampling of cards, disks and depths, evictions and prunings all rest, for hours."""

    async def main() -> Counter[str]:
        world = FakeWorld()
        async with alive(world):
            await until(lambda: now() > 5)
            await put(world, "own", id="alone", exclusive="box", command=["run", "10000", "0", "5"], timeout="10h")
            await until(lambda: now() > 60)
            before = world.calls.copy()
            await asyncio.sleep(8940)
            return world.calls - before

    calls = run_virtual(main())
    assert set(calls) <= LEASES | ITS_OWN_LOG | AGAIN_AFTER_LONG_SILENCE | AS_RARELY
    assert calls["queue.renew"] >= 8940 / 60
    assert calls["results.stops"] <= 8940 / 20 + 2
    assert max(calls["credentials.scan"], calls["workspaces.free_bytes"]) <= 8940 / 20 + 2
    assert calls["results.beat"] <= 2 * 8940 / 24, "two queues are told"
    assert calls["sink.write"] <= 5


AS_IT_BEGINS = {
    "sources": {"broker.change": 2, "results.change": 2, "broker.queues": 2, "credentials.changes": 1},
    "logs": {"spool.unshed": 1},
    "poller own own": {"broker.open": 1, "journal.in_flight": 1},
}
"""How often; there are two files."""


@pytest.mark.parametrize(("actor", "crashes_at"), [
    ("sources", "credentials.scan"), ("logs", "spool.news"), ("poller own own", "results.stops")
])  # fmt: skip
def test_who_is_restarted_beside_it_rests_all_the_same(actor: str, crashes_at: str) -> None:
    """The edge may crash at any time, and is told nothing anew: it sees at once that somebody is alone."""

    async def main() -> Counter[str]:
        world = FakeWorld()
        async with alive(world) as runner:
            await until(lambda: now() > 5)
            await put(world, "own", id="alone", exclusive="box", command=["run", "2000", "0", "2000"])
            await until(lambda: world.containers.starts)
            await asyncio.sleep(30)
            world.troubles[crashes_at] = raises(ZeroDivisionError("a bug"))
            await until(lambda: any(child.restarts for child in runner.children() if child.name == actor))
            world.troubles.clear()
            before = world.calls.copy()
            await asyncio.sleep(1000)
            assert not ended(world, "alone")
            return world.calls - before

    calls = run_virtual(main())
    assert {call: calls.pop(call) for call in AS_IT_BEGINS[actor]} == AS_IT_BEGINS[actor]
    assert set(calls) <= LEASES | ITS_OWN_LOG | AGAIN_AFTER_LONG_SILENCE | AS_RARELY
    assert max(calls["results.stops"], calls["credentials.scan"]) <= 1000 / 20 + 3


def test_it_has_no_more_disk_than_others() -> None:
    """Its files are not measured while it measures; that the disk gets full is seen without looking at them."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            await put(world, "own", id="alone", exclusive="box", command=lasts(1000), resources={"disk": "1GiB"})
            await until(lambda: world.containers.starts)
            await asyncio.sleep(100)
            world.workspaces.used, world.workspaces.free = 2 << 30, (1 << 40) - (2 << 30)
            await until(lambda: ended(world, "alone"))
            assert now() < 150
            assert reason(world, "alone") == "disk_exceeded"

    run_virtual(main())


def test_its_log_goes_out_every_100_ms_at_most() -> None:
    async def main() -> int:
        world = FakeWorld()
        async with alive(world):
            await put(world, "own", id="alone", exclusive="box", command=lasts(20))
            await until(lambda: world.containers.starts)
            key = key_of(world, "alone")
            await asyncio.sleep(1)
            before = world.calls["sink.write"]
            for _ in range(1000):
                await world.spool.append(key, 1, "runner", b"a line\n")
                await asyncio.sleep(0.01)
            return world.calls["sink.write"] - before

    assert 80 <= run_virtual(main()) <= 101


@pytest.mark.parametrize("how", ["killed", "killed before it started", "killed in a drain", "left"])
def test_it_is_quiet_again_after_a_restart_before_anything_is_fetched(how: str) -> None:
    async def main() -> None:
        world = FakeWorld()
        async with alive(world, killed=how != "left") as runner:
            if how == "killed before it started":
                world.troubles["containers.start"] = hangs
            await put(world, "own", id="alone", exclusive="box", command=lasts(300))
            await until(lambda: written(world, "alone", StartRecord))
            await asyncio.sleep(1)
            if how == "killed in a drain":
                stop_fetching(runner)
                draining = asyncio.ensure_future(drain(runner, asyncio.Event(), 600.0))
                await asyncio.sleep(10)
                draining.cancel()
        world.troubles.clear()
        for number in range(3):
            await put(world, "shared", id=f"small-{number}", resources=HALF)
        async with alive(world):
            await until(lambda: world.kept_off)
            assert world.kept_off == [(1,)]
            await asyncio.sleep(10)
            before = world.calls["results.stops"]
            await asyncio.sleep(90)
            assert world.calls["results.stops"] - before <= 90 / 20 + 1, "its poller came later, and knew"
            assert not world.queues["shared"].claims
            assert not world.calls["queue.fetch"]
            await until(lambda: ended(world, "alone", *(f"small-{number}" for number in range(3))))
            assert reason(world, "alone") == "succeeded"
        assert check_solitude(world) == 1
        assert set(world.containers.starts.values()) == {1}

    run_virtual(main())


def test_the_next_one_is_staged_while_the_last_one_uploads_and_begins_with_its_last_byte() -> None:
    async def main() -> float:
        world = FakeWorld()
        world.troubles["store.put"] = slow(30)
        world.troubles["store.get"] = slow(20)
        for number in range(3):
            await put(world, "shared", id=f"alone-{number}", exclusive="box", command=lasts(10), **IO)
        async with alive(world):
            await until(lambda: ended(world, *(f"alone-{number}" for number in range(3))))
        assert check_solitude(world) == 3
        return max(
            when(world, f"alone-{number + 1}", StartRecord) - when(world, f"alone-{number}", StoreRecord)
            for number in range(2)
        )

    assert run_virtual(main()) < 0.1


def test_nobody_behind_it_slips_in_while_the_last_one_uploads() -> None:
    async def main() -> None:
        world = FakeWorld()
        world.troubles["store.put"] = slow(30)
        async with alive(world):
            await put(world, "own", id="first", exclusive="box", outputs=IO["outputs"])
            await put(world, "own", id="second", exclusive="box")
            await put(world, "own", id="small", resources=HALF)
            await until(lambda: now() > 20)
            assert why(world, "small").startswith("job second waits to run alone on this box")
            await until(lambda: ended(world, "first", "second", "small"))
        assert when(world, "second", ExitRecord) <= when(world, "small", StartRecord)

    run_virtual(main())


def test_who_waits_for_a_card_in_other_hands_holds_up_nobody() -> None:
    """It is its turn, and the box is empty; but that is not what it waits for."""

    async def main() -> None:
        world = FakeWorld()
        world.probe.held_elsewhere = {"GPU-0", "GPU-1"}
        async with alive(world, configuration(patience=5000)):
            await put(world, "own", id="alone", exclusive="box", resources={"gpus": 1})
            await put(world, "own", id="small", resources=HALF)
            await until(lambda: ended(world, "small"), limit_s=60)
            assert why(world, "alone").startswith("its GPU is held by another runner")
            world.probe.held_elsewhere = set()
            await until(lambda: ended(world, "alone"), limit_s=60)

    run_virtual(main())


def test_one_that_cannot_be_staged_ends_though_the_box_was_granted_to_it() -> None:
    """Its receipt must not wait for its own quiet to be over."""

    async def main() -> None:
        world = FakeWorld()
        missing = [{"path": "x", "url": "folder:///missing"}]
        async with alive(world):
            await put(world, "own", id="alone", exclusive="box", inputs=missing)
            await until(lambda: ended(world, "alone"), limit_s=60)
            assert reason(world, "alone") == EndReason.INPUT_REFUSED
            await put(world, "own", id="next")
            await until(lambda: ended(world, "next"), limit_s=60)
        assert world.kept_off[-1] == ()

    run_virtual(main())


def test_who_is_cancelled_beside_it_is_told_of_when_it_is_over() -> None:
    """Nothing is stored meanwhile, also over a restart; who only waited for too long is given back all the same."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world, killed=True) as runner:
            await put(world, "own", id="alone", exclusive="box", command=lasts(300))
            await until(lambda: world.containers.starts)
            await put(world, "shared", id="waits")
            await until(lambda: len(world.journal.entries) == 2)
            await RunningControl(runner).cancel("waits")
            await asyncio.sleep(100)
            assert newest(world, "waits") is None
        async with alive(world):
            await asyncio.sleep(50)
            assert newest(world, "waits") is None
            await until(lambda: ended(world, "alone", "waits"))
            assert reason(world, "waits") == EndReason.CANCELLED
        assert world.containers.starts == {f"{key_of(world, 'alone')}.1": 1}

    run_virtual(main())


def test_others_are_given_back_to_a_shared_queue_while_it_runs() -> None:
    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            await put(world, "own", id="alone", exclusive="box", command=lasts(300))
            await until(lambda: world.containers.starts)
            await put(world, "shared", id="waits")
            await until(lambda: len(world.journal.entries) == 2)
            await until(lambda: world.queues["shared"].messages["shared-0"].note.releases == 1, limit_s=60)
            assert not ended(world, "alone")

    run_virtual(main())


def test_a_stream_of_small_jobs_does_not_starve_it() -> None:
    """Out of patience, it reserves the box: it begins once those have ended that run by then."""

    async def main() -> tuple[float, float]:
        world = FakeWorld()
        async with alive(world, configuration(patience=60)):
            for number in range(400):
                if number == 6:
                    await put(world, "own", id="alone", exclusive="box", command=lasts(5))
                lasting = lasts(7 + number % 5 / 2)
                await put(world, "own", id=f"small-{number}", command=lasting, resources=HALF, timeout="10s")
            await until(lambda: "alone" in _waiting(world))
            came_at = now()
            await until(lambda: now() > came_at + 60 and len(_waiting(world)) > 2)
            waiting = [job_id for job_id in _waiting(world) if job_id != "alone"]
            assert {why(world, job_id).partition(";")[0] for job_id in waiting} == {
                "job alone waits to run alone on this box"
            }
            await until(lambda: ended(world, "alone"))
            return came_at, when(world, "alone", StartRecord)

    came_at, began_at = run_virtual(main())
    assert began_at - came_at < 60 + 10 + 2


def _waiting(world: FakeWorld) -> list[str]:
    entries = world.journal.entries.values()
    return [entry.claimed.claim.id for entry in entries if entry.granted is None and entry.stored is None]


@pytest.mark.parametrize("lasting", [5, 100])
def test_a_stream_of_exclusive_jobs_does_not_starve_small_ones(lasting: float) -> None:
    """The queue that was served less comes first whenever one of them has ended."""

    async def main() -> tuple[float, float]:
        world = FakeWorld()
        async with alive(world):
            for number in range(200):
                await put(world, "own", id=f"alone-{number}", exclusive="box", command=lasts(lasting))
            await until(lambda: ended(world, "alone-2"))
            came_at = now()
            for number in range(3):
                await put(world, "shared", id=f"small-{number}", resources=HALF)
            await until(lambda: ended(world, "small-0", "small-1", "small-2"))
            ended_at = now()
            await until(lambda: ended(world, "alone-5"))
            return came_at, ended_at

    came_at, ended_at = run_virtual(main())
    assert ended_at - came_at < 3 * lasting + 40


def test_a_queue_that_is_being_read_comes_first_where_it_is_its_turn() -> None:
    """One of its jobs was cancelled while another one was alone; the next is on its way, and may take a moment."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world, configuration(patience=5000)) as runner:
            await put(world, "own", id="holder", command=lasts(5))
            await until(lambda: world.containers.starts)
            for job_id in ("alone", "alone-too"):
                await put(world, "own", id=job_id, exclusive="box", command=lasts(60))
            await until(lambda: len(world.journal.entries) == 3 and now() > 10)
            await put(world, "shared", id="cancelled")
            await until(lambda: len(world.journal.entries) == 4)
            await RunningControl(runner).cancel("cancelled")
            await put(world, "shared", id="small")
            world.troubles["queue.fetch"] = slow(0.5)
            await until(lambda: ended(world, "alone-too", "small"))
        assert when(world, "small", StartRecord) < when(world, "alone-too", StartRecord)

    run_virtual(main())


def test_it_gets_all_cores_but_one_and_the_memory_that_it_asks_for_or_all() -> None:
    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            await put(world, "own", id="all", exclusive="box")
            await put(world, "own", id="some", exclusive="box", resources={"memory": "1GiB"})
            await put(world, "own", id="both-cores", exclusive="box", resources={"cpus": 2})
            await until(lambda: ended(world, "all", "some", "both-cores"))
        grants = [receipt.grant for job_id in ("all", "some") if (receipt := newest(world, job_id))]
        assert [(grant.cores, grant.memory >> 30) for grant in grants] == [((1,), 8), ((1,), 1)]
        refused = newest(world, "both-cores")
        assert refused is not None
        assert (refused.end_reason, refused.message) == (
            "rejected",
            "this box can never run it: needs 2 cores, 1 is here while the runner keeps one for itself",
        )

    run_virtual(main())


def test_pinned_cores_are_nobody_elses() -> None:
    """Two cores have room for a half beside a whole one, but only on the other core."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            await put(world, "own", id="half", command=lasts(50), resources=HALF)
            await put(world, "own", id="pinned", exclusive="gpu", command=lasts(50), resources={"gpus": 1, "cpus": 0.5})
            await put(world, "own", id="quarter", command=lasts(50), resources={"cpus": 0.25})
            await put(world, "own", id="pinned-too", exclusive="gpu", command=lasts(1), resources={"gpus": 1})
            await until(lambda: len(world.containers.starts) == 3)
            cores = {one.spec.grant.here.cores for one in world.containers.containers.values()}
            assert cores == {(0,), (1,)}
            pinned = world.containers.containers[f"{key_of(world, 'pinned')}.1"].spec.grant.here
            assert (pinned.cpus, pinned.cores) == (1.0, (1,))
            await asyncio.sleep(2)
            assert why(world, "pinned-too").startswith("needs 1 core, 0.25 are free")
            await until(lambda: ended(world, "half", "pinned", "quarter", "pinned-too"))

    run_virtual(main())


def test_a_stream_of_small_shares_leaves_a_core_to_one_that_wants_its_own() -> None:
    """Shares spread over all cores; out of patience, it has the least used one kept free."""

    async def main() -> float:
        world = FakeWorld()
        async with alive(world, configuration(max_waiting=40)):
            stream = asyncio.ensure_future(_stream(partial(put, world, "shared"), 600))
            await until(lambda: now() > 20)
            await put(world, "own", id="pinned", exclusive="gpu", timeout="20s")
            await until(lambda: now() > 30)
            assert why(world, "pinned").startswith("needs 1 core of its own, 0 are free")
            await until(lambda: ended(world, "pinned"))
            stream.cancel()
            return when(world, "pinned", StartRecord)

    assert run_virtual(main()) < 20 + 20 + 12


async def _stream(put_one: Any, count: int) -> None:
    for number in range(count):
        await put_one(id=f"small-{number}", command=lasts(9.7), resources={"cpus": 0.1}, timeout="10s")
        await asyncio.sleep(1.3)


def test_an_upload_that_waits_for_its_broker_keeps_nobody_from_being_alone() -> None:
    """Else a box would stand still for as long as a broker is away; it goes on once the other one has ended."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            await put(world, "shared", id="cut-off", command=lasts(10), outputs=IO["outputs"])
            await until(lambda: world.containers.starts)
            world.troubles["queue.renew"] = raises(Unavailable("away"))
            await put(world, "own", id="alone", exclusive="box", command=lasts(200))
            await until(lambda: written(world, "alone", StartRecord), limit_s=100)
            assert not world.store.put_at
            world.troubles.clear()
            await until(lambda: now() > 150)
            assert not world.store.put_at
            await until(lambda: ended(world, "alone", "cut-off"))
        assert check_solitude(world) == 1

    run_virtual(main())


def test_one_that_is_taken_back_beside_others_harms_nobody() -> None:
    """It cannot be, but by a journal that was changed."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world, killed=True):
            for job_id, seconds in (("alone", 100), ("short", 50), ("long", 150)):
                await put(world, "own", id=job_id, command=lasts(seconds), resources={"cpus": 0.3})
            await until(lambda: len(world.containers.starts) == 3)
        key = key_of(world, "alone")
        claimed = world.journal.entries[key].claimed
        job = msgspec.structs.replace(claimed.claim.job, exclusive="box")
        changed = msgspec.structs.replace(claimed, claim=msgspec.structs.replace(claimed.claim, job=job))
        world.journal.entries[key] = msgspec.structs.replace(world.journal.entries[key], claimed=changed)
        async with alive(world):
            await until(lambda: ended(world, "alone", "short", "long"))
            assert {reason(world, job_id) for job_id in ("alone", "short", "long")} == {"succeeded"}

    run_virtual(main())
