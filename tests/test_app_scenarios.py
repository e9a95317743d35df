"""
What the ring does in named situations, on fakes in virtual time: waiting, giving back, cancelling, draining, leaving.
"""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from runner.app import Runner, drain
from runner.control import RunningControl
from runner.errors import Refused
from runner.job import EndReason, Verdict
from runner.messages import StopCredits, StopFetching
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


def test_the_same_id_again_waits_for_the_end_of_the_first() -> None:
    """A resubmission under one id is a new job, after the first."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            await put(world, "own", id="twin", command=["run", "20", "0", "1"])
            await put(world, "own", id="twin", command=["run", "2", "0", "1"])
            await until(lambda: sum(world.queues["own"].final.values()) == 2)
        spans = sorted((receipt.started_at or 0, receipt.ended_at or 0) for receipt in world.results.receipts.values())
        assert len(spans) == 2
        assert spans[0][1] <= spans[1][0], "they overlapped"

    run_virtual(main())


@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.9, 5.0, 30.0])
def test_cancelling_ends_a_job_in_whatever_stage_it_is(seconds: float) -> None:
    """From the queue to the upload: one end, and cancelling again is no error."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world) as runner:
            control = RunningControl(runner)
            await put(world, "own", id="holder", resources={"cpus": 2}, command=["run", "3", "0", "1"])
            await put(world, "own", id="job", command=["run", "20", "0", "1"])
            await asyncio.sleep(seconds)
            told = [await control.cancel("job"), await control.cancel("job")]
            assert all(told)
            await until(lambda: not world.waiting())
            if newest(world, "job") is not None:
                assert reason(world, "job") in {EndReason.CANCELLED, EndReason.SUCCEEDED}
            await until(lambda: all(entry.settled for entry in world.journal.entries.values()))
        assert max(world.queues["own"].final.values()) == 1

    run_virtual(main())


def test_a_job_that_nobody_knows_cannot_be_cancelled() -> None:
    async def main() -> None:
        world = FakeWorld()
        async with alive(world) as runner:
            await asyncio.sleep(1)
            with pytest.raises(Refused, match="no job 'nosuch' is known here"):
                await RunningControl(runner).cancel("nosuch")

    run_virtual(main())


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


async def _drained(runner: Runner, grace_s: float) -> None:
    runner.address("sources").urgent(StopFetching())
    runner.address("inventory").urgent(StopCredits())
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


def test_a_job_older_than_it_may_become_is_not_started() -> None:
    async def main() -> None:
        world = FakeWorld()
        await put(world, "own", id="old", expires="30s")
        await asyncio.sleep(60)
        async with alive(world):
            await until(lambda: ended(world, "old"))
        assert reason(world, "old") == EndReason.EXPIRED
        assert not world.containers.starts
        assert world.queues["own"].messages["own-0"].gone is Verdict.REJECT

    run_virtual(main())


def test_silence_and_time_end_a_job_with_their_own_reasons() -> None:
    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            await put(world, "own", id="silent", silent_for="20s", command=["run", "900", "0", "0"])
            await put(world, "own", id="slow", timeout="20s", command=["run", "900", "0", "900"])
            await until(lambda: ended(world, "silent", "slow"))
            assert now() < 40
        assert (reason(world, "silent"), reason(world, "slow")) == ("silent", "timeout")

    run_virtual(main())


def test_a_credential_that_goes_lets_what_runs_finish() -> None:
    """Polling stops at once; the running job is stored and settled through the old connection; then it is closed."""

    async def main() -> None:
        world = FakeWorld()
        files = world.files()
        shown = list(files)
        world.files = lambda: tuple(shown)  # type: ignore[method-assign]
        async with alive(world) as runner:
            await put(world, "shared", id="runs", command=["run", "40", "0", "1"])
            await until(lambda: world.containers.containers)
            shown.remove(files[1])
            await asyncio.sleep(15)
            rows = {row.file: row for row in await RunningControl(runner).sources()}
            assert rows["shared"].state == "finishing"
            await put(world, "shared", id="later")
            await until(lambda: ended(world, "runs"))
            await asyncio.sleep(15)
            assert {row.file for row in await RunningControl(runner).sources()} == {"own"}
            assert world.queues["shared"].closed == 1
            assert newest(world, "later") is None
            shown.append(files[1])
            await until(lambda: ended(world, "later"))

    run_virtual(main())


def test_a_user_has_no_more_running_than_the_queue_allows() -> None:
    """A cap in the credential file: others pass while the second job of the same user waits, and says why."""

    async def main() -> None:
        world = FakeWorld()
        own, shared = world.files()
        assert own.credential is not None
        rights = msgspec.structs.replace(own.credential.rights, user_max_running=1)
        capped = msgspec.structs.replace(own, credential=msgspec.structs.replace(own.credential, rights=rights))
        world.files = lambda: (capped, shared)  # type: ignore[method-assign]
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


def test_only_queues_that_match_are_read() -> None:
    async def main() -> None:
        world = FakeWorld()
        async with alive(world, configuration(queue_match="^o", queue_mismatch="x")):
            await put(world, "own", id="read")
            await put(world, "shared", id="unread")
            await until(lambda: ended(world, "read"))
            await asyncio.sleep(30)
            assert newest(world, "unread") is None

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


def test_the_runner_remembers_nothing_of_ended_jobs() -> None:
    """A box that is left alone for a year must not fill its memory either: pumps, marks and standings go."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world) as runner:
            for number in range(50):
                gpus = {"gpus": number % 3, "cpus": 0.5}
                await put(world, "own", id=f"job-{number}", command=["run", "1", "0", "2"], resources=gpus)
            await until(lambda: ended(world, *(f"job-{number}" for number in range(50))))
            await asyncio.sleep(200)
            assert not world.probe.locked
            tasks = [task.get_name() for task in asyncio.all_tasks() if "job-" in task.get_name()]
            assert tasks == []
            assert all(counters.depth == counters.urgent_depth == 0 for counters in runner.counters())

    run_virtual(main())


def test_a_receipt_says_what_was_granted_and_how_long_each_stage_took() -> None:
    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            await put(world, "own", id="told", name="n", user="ada", resources={"gpus": 1, "cpus": 0.5})
            await until(lambda: ended(world, "told"))
        receipt = newest(world, "told")
        assert receipt is not None
        assert (receipt.name, receipt.user, receipt.queue, receipt.gpus) == ("n", "ada", "own", ("GPU-0",))
        assert set(receipt.stages) == {"queued", "waiting", "running", "storing"}
        assert receipt.stages["running"] == pytest.approx(3.0)
        assert msgspec.json.decode(msgspec.json.encode(receipt))["key"] == key_of(world, "told")

    run_virtual(main())
