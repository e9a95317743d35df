"""What a drain tells jobs, how long each part of it may take, and what is left of it for the next life."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from runner.app import Runner, build, drain
from runner.control import RunningControl
from runner.job import Key
from runner.messages import StopAnnounced
from runner.receipt import Receipt
from runner.records import JournalRecord, PlaceRecord
from runner.units import Duration
from tests.fakes.faults import Life, hangs
from tests.fakes.scenes import alive, ended, newest, now, put, reason, stop_fetching, until
from tests.fakes.variety import put_variety, vary
from tests.fakes.world import FakeWorld, configuration, key_of, new_life
from tests.test_app import check_ledger, check_logs, live
from tests.virtual_time import run_virtual

LONG = ["run", "5000", "0", "1"]
NAPS = configuration(preempt_grace=Duration(120))


@asynccontextmanager
async def draining(runner: Runner, grace_s: float) -> AsyncIterator[asyncio.Event]:
    """Begin a drain; at the end it is over, or cancelled where somebody made a leave of it."""
    stop_fetching(runner)
    hurry = asyncio.Event()
    drained = asyncio.ensure_future(drain(runner, hurry, grace_s))
    try:
        yield hurry
    finally:
        await drained


async def drained(runner: Runner, grace_s: float) -> float:
    """Drain, and return how long that took."""
    began = now()
    async with draining(runner, grace_s):
        pass
    return now() - began


def said(world: FakeWorld, job_id: str) -> str:
    lines = world.spool.lines[key_of(world, job_id)]
    return b"".join(line.data for line in lines if line.stream == "runner").decode()


def receipt(world: FakeWorld, job_id: str) -> Receipt:
    found = newest(world, job_id)
    assert found is not None, f"{job_id} has no receipt"
    return found


def name_of(world: FakeWorld, job_id: str) -> str:
    return f"{key_of(world, job_id)}.1"


def test_what_runs_is_told_when_a_drain_stops_it() -> None:
    """In the file that it reads its deadline from, and in its log; one whose own time is over sooner is left alone."""

    async def main() -> None:
        world = FakeWorld()
        await put(world, "own", id="long", command=LONG)
        await put(world, "own", id="short", command=LONG, timeout="30s")
        async with alive(world, NAPS) as runner:
            await until(lambda: len(world.containers.containers) == 2)
            ends_at = world.now() + 60
            await drained(runner, 60)
            assert [name_of(world, "long")] == list(world.containers.deadlines)
            assert abs(world.containers.deadlines[name_of(world, "long")] - ends_at) < 0.5
        assert "the runner drains: this job is stopped at 2023-11-14 22:" in said(world, "long")
        assert "drains" not in said(world, "short")
        assert (reason(world, "long"), reason(world, "short")) == ("preempted", "timeout")

    run_virtual(main())


def test_a_job_that_is_started_in_a_drain_begins_with_its_end_in_sight() -> None:
    """It had its GPUs when the drain began, and its inputs were on their way."""

    async def main() -> None:
        world = FakeWorld()

        async def slowly(*_args: object) -> None:
            await asyncio.sleep(20)

        world.troubles["workspaces.create"] = slowly
        await put(world, "own", id="late", command=LONG)
        async with alive(world, NAPS) as runner:
            await until(lambda: any(entry.granted for entry in world.journal.entries.values()))
            ends_at = world.now() + 60
            async with draining(runner, 60):
                await until(lambda: world.containers.containers)
                told_at = world.containers.containers[name_of(world, "late")].spec.deadline_at
                assert told_at is not None
                assert abs(told_at - ends_at) < 0.5
        assert reason(world, "late") == "preempted"

    run_virtual(main())


def test_a_job_that_is_being_placed_ahead_as_a_drain_begins_is_given_back() -> None:
    """The journal does not have its place yet as one looks there for whom to give back."""

    async def main() -> None:
        world = FakeWorld()
        placing: list[float] = []

        async def slowly(key: Key, record: JournalRecord) -> None:
            if isinstance(record, PlaceRecord) and not world.journal.entries[key].granted:
                placing.append(now())
                await asyncio.sleep(2)

        await put(world, "own", id="runs", command=["run", "300", "0", "1"])
        async with alive(world, configuration(max_jobs=1)) as runner:
            await until(lambda: world.containers.containers)
            world.troubles["journal.append"] = slowly
            for job_id in ("next", "third"):
                await put(world, "own", id=job_id, command=LONG)
            await until(lambda: placing)
            assert await drained(runner, 4000) < 400
        assert len(world.containers.containers) == 0
        assert [name_of(world, "runs")] == list(world.containers.starts)

    run_virtual(main())


@pytest.mark.parametrize("adopted", [False, True])
def test_a_job_that_is_being_started_as_a_drain_begins_is_told_once(adopted: bool) -> None:  # noqa: FBT001 - a parameter
    """What is told before there is a container would be lost; then its log says it once."""

    async def main() -> None:
        world = FakeWorld()
        await put(world, "own", id="late", command=LONG)
        if adopted:
            async with alive(world, NAPS, killed=True):
                await until(lambda: world.containers.containers)
        begun: list[float] = []

        async def slowly(*_args: object) -> None:
            begun.append(now())
            await asyncio.sleep(20)

        world.troubles["containers.start"] = slowly
        async with alive(world, NAPS) as runner:
            await until(lambda: begun)
            ends_at = world.now() + 60
            async with draining(runner, 60):
                await until(lambda: now() > begun[0] + 19)
                assert not world.containers.deadlines
                await until(lambda: world.containers.deadlines)
                assert abs(world.containers.deadlines[name_of(world, "late")] - ends_at) < 0.5
        assert said(world, "late").count("the runner drains") == 1

    run_virtual(main())


def test_a_drain_that_becomes_a_leave_gives_the_time_back() -> None:
    """Before the runner goes: what runs on must not hurry for an end that does not come."""

    async def main() -> None:
        world = FakeWorld()
        await put(world, "own", id="long", command=LONG, timeout="1h")
        async with alive(world, NAPS) as runner:
            await until(lambda: world.containers.containers)
            executor, name = runner.address("executor"), name_of(world, "long")
            own_at = world.containers.containers[name].spec.deadline_at
            for at in (world.now() + 60, None):
                await executor.ask(partial(StopAnnounced, at), timeout_s=5)
                assert world.containers.deadlines[name] == (at or own_at)
        assert "the runner does not drain any more" in said(world, "long")

    run_virtual(main())


def test_a_runner_killed_in_a_drain_gives_the_time_back_when_it_starts_again() -> None:
    """The next life does not drain, and knows nothing of what was told."""

    async def main() -> None:
        world = FakeWorld()
        await put(world, "own", id="long", command=LONG, timeout="1h")
        async with alive(world, NAPS, killed=True) as runner:
            await until(lambda: world.containers.containers)
            await runner.address("executor").ask(partial(StopAnnounced, world.now() + 60), timeout_s=5)
        name = name_of(world, "long")
        own_at = world.containers.containers[name].spec.deadline_at
        assert world.containers.deadlines[name] != own_at
        async with alive(world, NAPS):
            await until(lambda: world.containers.deadlines[name] == own_at, limit_s=60)

    run_virtual(main())


def test_a_runtime_that_takes_no_deadline_holds_no_drain_up() -> None:
    async def main() -> None:
        world = FakeWorld()
        world.troubles["containers.tell_deadline"] = hangs
        await put(world, "own", id="long", command=LONG)
        async with alive(world, NAPS) as runner:
            await until(lambda: world.containers.containers)
            assert await drained(runner, 20) < 30
        assert reason(world, "long") == "preempted"

    run_virtual(main())


@pytest.mark.parametrize(("asked", "stopping_s", "code", "within_s"), [
    ("10s", 9.0, 143, 9), ("10s", 900.0, 137, 10), ("1h", 25.0, 143, 25), ("1h", 900.0, 137, 30)
])  # fmt: skip
def test_a_job_has_the_grace_it_asked_for_up_to_a_quarter(
    asked: str, stopping_s: float, code: int, within_s: float
) -> None:
    """Of two minutes: the rest is for what it leaves."""

    async def main() -> None:
        world = FakeWorld()
        world.containers.stopping_s = stopping_s
        await put(world, "own", id="job", command=LONG, stop_grace=asked)
        async with alive(world, NAPS) as runner:
            await until(lambda: world.containers.containers)
            took_s = await drained(runner, 20)
            assert within_s <= took_s - 20 < within_s + 5
        assert (receipt(world, "job").exit_code, reason(world, "job")) == (code, "preempted")

    run_virtual(main())


def test_one_that_is_cancelled_in_a_drain_keeps_its_own_grace() -> None:
    """The hurry is the runner's: nothing of the job is given back."""

    async def main() -> None:
        world = FakeWorld()
        world.containers.stopping_s = 50.0
        await put(world, "own", id="job", command=LONG, stop_grace="1h")
        async with alive(world, NAPS) as runner:
            await until(lambda: world.containers.containers)
            await RunningControl(runner).cancel("job")
            await drained(runner, 0)
        assert (receipt(world, "job").exit_code, reason(world, "job")) == (143, "cancelled")

    run_virtual(main())


OUTPUTS = [{"path": name, "url": f"fake://store/{name}"} for name in ("first", "second", "third")]


def test_of_a_job_that_is_preempted_what_can_be_stored_in_time_is() -> None:
    """
    One store does not answer: all else stands, the receipt says what is missing, and the message is back before the
    two minutes are over.
    """

    async def main() -> None:
        world = FakeWorld()

        async def no_answer(_path: str, url: str) -> None:
            if "second" in url:
                await hangs()

        world.troubles["store.put"] = no_answer
        await put(world, "shared", id="job", command=LONG, outputs=OUTPUTS)
        async with alive(world, NAPS) as runner:
            await until(lambda: world.containers.containers)
            assert await drained(runner, 20) < 20 + 120
        told = receipt(world, "job")
        assert (told.end_reason, told.verdict, told.state) == ("preempted", "retry", "waiting")
        assert [bool(output.problem) for output in told.outputs] == [False, True, False]
        assert "not stored before the runner had to end" in told.outputs[1].problem
        assert "output second: not stored before the runner had to end" in said(world, "job")
        note = world.queues["shared"].messages["shared-0"].note
        assert (note.attempts, note.faults, list(world.queues["shared"].settled.values())) == (0, 1, ["retry"])

    run_virtual(main())


def test_a_hurried_drain_has_the_two_minutes_from_then() -> None:
    async def main() -> None:
        world = FakeWorld()
        world.troubles["store.put"] = hangs
        await put(world, "shared", id="job", command=LONG, outputs=OUTPUTS)
        async with alive(world, NAPS) as runner:
            await until(lambda: world.containers.containers)
            began = now()
            async with draining(runner, 3000) as hurry:
                await asyncio.sleep(10)
                hurry.set()
            assert 10 + 100 < now() - began < 10 + 120
        assert receipt(world, "job").verdict == "retry"

    run_virtual(main())


@pytest.mark.parametrize("trouble", ["store.put", "results.put_log"])
def test_what_ended_by_itself_is_stored_by_the_next_life(trouble: str) -> None:
    """Its work is done: a drain that is over gives it to nobody who would begin anew."""

    async def main() -> None:
        world = FakeWorld()
        world.troubles[trouble] = hangs
        await put(world, "shared", id="job", command=["run", "10", "0", "1"], outputs=OUTPUTS)
        async with alive(world, NAPS, killed=True) as runner:
            await until(lambda: world.journal.entries and world.journal.entries[key_of(world, "job")].exited)
            assert 20 + 119 < await drained(runner, 20) < 20 + 121
            assert not world.queues["shared"].settled
        world.troubles.clear()
        async with alive(world, NAPS):
            await until(lambda: ended(world, "job"), limit_s=60)
        assert (reason(world, "job"), sum(world.containers.starts.values())) == ("succeeded", 1)
        assert not any(output.problem for output in receipt(world, "job").outputs)

    run_virtual(main())


def test_what_is_preempted_and_cannot_be_given_back_in_time_is_by_the_next_life() -> None:
    """The result backend takes no receipt, so the message is kept: the journal knows that it was preempted."""

    async def main() -> None:
        world = FakeWorld()
        world.troubles["results.put_receipt"] = hangs
        await put(world, "shared", id="job", command=LONG, outputs=OUTPUTS)
        async with alive(world, NAPS, killed=True) as runner:
            await until(lambda: world.containers.containers)
            assert 20 + 119 < await drained(runner, 20) < 20 + 121
            assert not world.queues["shared"].settled
        world.troubles.clear()
        await asyncio.sleep(5)
        async with alive(world, NAPS):
            await until(lambda: world.queues["shared"].settled, limit_s=60)
        told = receipt(world, "job")
        assert (told.end_reason, told.verdict, sum(world.containers.starts.values())) == ("preempted", "retry", 1)

    run_virtual(main())


def test_a_job_that_waits_staged_is_given_back_as_a_drain_begins() -> None:
    """Another box may begin it now; here it would be cut short."""

    async def main() -> None:
        world = FakeWorld()
        for job_id in ("runs", "ahead", "third"):
            await put(world, "shared", id=job_id, resources={"cpus": 2}, command=["run", "100", "0", "1"])
        async with alive(world, NAPS) as runner:
            await until(lambda: any(entry.staged and not entry.granted for entry in world.journal.entries.values()))
            began = now()
            async with draining(runner, 600):
                await until(lambda: world.queues["shared"].settled)
                assert now() - began < 5
            assert reason(world, "runs") == "succeeded"
        notes = [world.queues["shared"].messages[f"shared-{number}"].note for number in range(3)]
        assert [(note.faults, note.releases) for note in notes] == [(0, 0), (0, 1), (0, 0)]
        assert sum(world.containers.starts.values()) == 1

    run_virtual(main())


def test_a_signal_hurries_no_drain_that_was_asked_for_otherwise_but_the_next_does() -> None:
    """A container's stop hook drains, and the signal that follows it at once must not take the grace away."""

    async def main() -> None:
        async with alive(FakeWorld()) as runner:
            asked, signalled = RunningControl(runner), RunningControl(runner)
            asked.stop(leave=False, grace_s=None)
            for control in (asked, signalled):
                control.signalled()
                assert (control.stopping.result(), control.hurry.is_set()) == ((False, 600.0), False)
                control.signalled()
                assert control.hurry.is_set()

    run_virtual(main())


@pytest.mark.integration
@pytest.mark.parametrize("seed", range(3))
def test_drains_in_the_middle_of_everything_lose_and_double_nothing(seed: int) -> None:
    """Ports fail and hang, and some drains are cut off by a kill; the last life finds all of it in order."""

    async def main() -> FakeWorld:
        world, seeded = FakeWorld(), random.Random(seed)
        vary(world, seeded)
        await put_variety(world, seeded)
        for number in range(seeded.randint(1, 3)):
            life = new_life(seed * 10 + number, fail=0.05, hang=0.01, calls_left=seeded.randint(200, 1500))
            await _drained_life(world, life, after_s=seeded.uniform(0, 60), grace_s=seeded.choice((0.0, 5.0, 60.0)))
        assert await live(world, configuration(), new_life(seed), for_s=50_000)
        return world

    world = run_virtual(main(), limit_s=90 * 86_400.0)
    check_ledger(world)
    check_logs(world)


async def _drained_life(world: FakeWorld, life: Life, *, after_s: float, grace_s: float) -> None:
    """One life that drains after a while, and ends when that is over or when it is killed, whatever is first."""
    runner = build(configuration(preempt_grace=Duration(20)), world.open(life))
    running, killed = asyncio.ensure_future(runner.run()), asyncio.ensure_future(life.killed.wait())
    await asyncio.wait({running, killed}, timeout=after_s, return_when=asyncio.FIRST_COMPLETED)
    stop_fetching(runner)
    drained = asyncio.ensure_future(drain(runner, asyncio.Event(), grace_s))
    done, _ = await asyncio.wait({running, killed, drained}, timeout=1000, return_when=asyncio.FIRST_COMPLETED)
    assert done, "the drain never ended"
    if drained in done:
        await runner.stop(grace_s=5.0, order=("logs",))
    life.end()
    for task in (running, killed, drained):
        task.cancel()
    await asyncio.gather(running, killed, drained, return_exceptions=True)
    world.count(life)
    world.ledger.check()
