"""A runner that stops, and a queue that goes: what runs is finished or taken up again."""

from __future__ import annotations

import asyncio

from runner.app import Runner, drain
from runner.control import RunningControl
from runner.job import EndReason
from tests.fakes.scenes import alive, ended, newest, now, put, reason, stop_fetching, until
from tests.fakes.world import FakeWorld, key_of
from tests.virtual_time import run_virtual


def test_a_drain_waits_for_what_runs_and_gives_the_rest_back() -> None:
    """Nothing new is fetched; what only waited costs nothing."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world) as runner:
            await put(world, "own", id="runs", resources={"cpus": 2}, command=["run", "30", "0", "1"])
            await until(lambda: world.containers.containers)
            await put(world, "shared", id="waits")
            await asyncio.sleep(5)
            await _drained(runner, grace_s=100.0)
            assert ended(world, "runs")
            assert reason(world, "runs") == EndReason.SUCCEEDED
            await put(world, "shared", id="too-late")
            await asyncio.sleep(30)
        notes = [message.note for message in world.queues["shared"].messages.values()]
        assert [note.faults for note in notes] == [0, 0]
        assert len(world.waiting()) == 2

    run_virtual(main())


def test_a_drain_stops_what_runs_too_long() -> None:
    """After the grace it is preempted: the box's fault, tried again by the next."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world) as runner:
            await put(world, "shared", id="long", command=["run", "5000", "0", "1"])
            await until(lambda: world.containers.containers)
            await _drained(runner, grace_s=20.0)
            assert now() < 60
        receipt = newest(world, "long")
        assert receipt is not None
        assert (receipt.end_reason, receipt.verdict, receipt.state) == ("preempted", "retry", "waiting")
        message = world.queues["shared"].messages["shared-0"]
        assert (message.gone, message.note.faults, message.note.attempts) == (None, 1, 0)

    run_virtual(main())


def test_a_drain_that_stops_what_runs_gives_back_untried_what_was_only_staged() -> None:
    """A job that was staged ahead of the one that runs never began: no fault of this box counts against it."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world) as runner:
            for job_id in ("runs", "ahead", "third"):
                await put(world, "shared", id=job_id, resources={"cpus": 2}, command=["run", "5000", "0", "1"])
            await until(lambda: any(entry.staged and not entry.granted for entry in world.journal.entries.values()))
            await _drained(runner, grace_s=20.0)
            assert now() < 60
        notes = {number: world.queues["shared"].messages[f"shared-{number}"].note for number in range(3)}
        assert [notes[number].faults for number in range(3)] == [1, 0, 0]
        assert [notes[number].releases for number in range(3)] == [0, 1, 0]
        assert sum(world.containers.starts.values()) == 1

    run_virtual(main())


async def _drained(runner: Runner, grace_s: float) -> None:
    stop_fetching(runner)
    await drain(runner, asyncio.Event(), grace_s)


def test_a_runner_that_leaves_is_taken_up_by_the_next() -> None:
    """The container runs on; the next life has its exit, its whole log, and one start."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            await put(world, "own", id="long", command=["run", "40", "3", "80"])
            await until(lambda: world.containers.containers)
            await asyncio.sleep(10)
        assert not ended(world, "long")
        await asyncio.sleep(5)
        async with alive(world):
            await until(lambda: ended(world, "long"))
        receipt = newest(world, "long")
        assert receipt is not None
        assert (receipt.exit_code, receipt.log.lines, receipt.attempt) == (3, 80, 1)
        assert world.containers.starts[f"{key_of(world, 'long')}.1"] == 1

    run_virtual(main())


def test_a_credential_that_goes_lets_what_runs_finish() -> None:
    """Polling stops at once; the running job is stored and settled through the old connection; then it is closed."""

    async def main() -> None:
        world = FakeWorld()
        shared = world.shown[1]
        async with alive(world) as runner:
            await put(world, "shared", id="runs", command=["run", "40", "0", "1"])
            await until(lambda: world.containers.containers)
            world.shown.remove(shared)
            await asyncio.sleep(15)
            rows = {row.file: row for row in await RunningControl(runner).sources()}
            assert rows["shared"].state == "finishing"
            await put(world, "shared", id="later")
            await until(lambda: ended(world, "runs"))
            await asyncio.sleep(15)
            assert {row.file for row in await RunningControl(runner).sources()} == {"own"}
            assert world.queues["shared"].closed == 1
            assert newest(world, "later") is None
            world.shown.append(shared)
            await until(lambda: ended(world, "later"))

    run_virtual(main())


def test_a_credential_that_comes_back_while_its_last_fetch_waits_is_read_on() -> None:
    """The fetch that outlived the file brings a job; the one after that must be fetched, too."""

    async def main() -> None:
        world = FakeWorld()
        shared = world.shown[1]
        async with alive(world) as runner:
            control = RunningControl(runner)
            await asyncio.sleep(1)
            world.shown.remove(shared)
            await _until_state(control, "finishing")
            world.shown.append(shared)
            await _until_state(control, "in use")
            assert now() < 20, "the first long poll must still wait"
            await put(world, "shared", id="first")
            await until(lambda: ended(world, "first"))
            await put(world, "shared", id="second")
            await until(lambda: ended(world, "second"), limit_s=120)

    run_virtual(main())


async def _until_state(control: RunningControl, state: str) -> None:
    while {row.file: row.state for row in await control.sources()}["shared"] != state:
        await asyncio.sleep(0.2)
