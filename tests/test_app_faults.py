"""
Services that refuse, hang or fill up, and stops that a job or a kill meets in its own way: each ends as it must.
"""

from __future__ import annotations

import asyncio
import logging

import pytest

from runner.app import build, drain
from runner.control import RunningControl
from runner.errors import ConfigurationError, OutOfSpace, Refused, Unavailable
from runner.job import EndReason, Verdict
from runner.messages import StopJob
from runner.receipt import Receipt
from tests.fakes.faults import hangs, raises
from tests.fakes.scenes import alive, ended, newest, now, put, reason, until
from tests.fakes.world import FakeWorld, configuration, key_of, new_life
from tests.virtual_time import run_virtual

OUTPUTS = [{"path": "o", "url": "folder:///r"}]
A_THIRD = {"cpus": 0.3}


def receipt(world: FakeWorld, job_id: str) -> Receipt:
    found = newest(world, job_id)
    assert found is not None, f"{job_id} has no receipt"
    return found


def test_a_log_that_hangs_after_the_end_too_loses_no_line() -> None:
    """What ended gives its log within seconds; a line that hangs then is not waited for as long as a silent job."""

    async def main() -> None:
        world = FakeWorld()
        await put(world, "own", id="job", command=["run", "10", "0", "20"])
        world.troubles["containers.attach"] = hangs
        async with alive(world):
            await asyncio.sleep(60)
            world.troubles.clear()
            await until(lambda: ended(world, "job"), limit_s=200)
        assert receipt(world, "job").log.lines == 20

    run_virtual(main())


@pytest.mark.parametrize("how", ["preempted", "timeout", "cancelled"])
def test_a_job_that_ends_well_because_it_was_stopped_did_not_succeed(how: str) -> None:
    """A trainer that saves a checkpoint on SIGTERM and exits 0 has not finished its work."""

    async def main() -> None:
        world = FakeWorld()
        world.containers.stopping_s, world.containers.code_when_stopped = 4.0, 0
        limits = {"timeout": "30s"} if how == "timeout" else {}
        await put(world, "shared", id="job", command=["run", "5000", "0", "1"], **limits)
        async with alive(world) as runner:
            await until(lambda: world.containers.containers)
            if how == "preempted":
                await drain(runner, asyncio.Event(), 20.0)
            if how == "cancelled":
                await RunningControl(runner).cancel("job")
            await until(lambda: newest(world, "job"), limit_s=120)
        assert (receipt(world, "job").end_reason, receipt(world, "job").exit_code) == (how, 0)

    run_virtual(main())


@pytest.mark.parametrize(("code", "how"), [(0, "succeeded"), (3, "failed")])
def test_a_job_that_ended_before_it_was_stopped_ended_by_itself(code: int, how: str) -> None:
    """The runtime told of the end late; the stop came between, and stopped nothing."""

    async def main() -> None:
        world = FakeWorld()

        async def late(_name: str) -> None:
            await asyncio.sleep(20)

        world.troubles["containers.wait"] = late
        await put(world, "own", id="job", command=["run", "3", str(code), "1"])
        async with alive(world) as runner:
            await asyncio.sleep(10)
            await RunningControl(runner).cancel("job")
            await until(lambda: ended(world, "job"), limit_s=120)
        assert (receipt(world, "job").end_reason, receipt(world, "job").exit_code) == (how, code)

    run_virtual(main())


def test_why_a_job_was_stopped_is_known_after_a_kill_in_its_grace() -> None:
    """Else the next life reads the exit code, and a preempted job has failed for good."""

    async def main() -> None:
        world = FakeWorld()
        world.containers.stopping_s = 5.0
        await put(world, "shared", id="job", command=["run", "5000", "0", "1"])
        async with alive(world, killed=True) as runner:
            await until(lambda: world.containers.containers)
            stop = StopJob(key_of(world, "job"), 1, EndReason.PREEMPTED, world.now(), "the runner was stopped")
            for stage in runner.stages:
                stage.urgent(stop)
            await asyncio.sleep(1)
        await asyncio.sleep(10)
        async with alive(world):
            await until(lambda: newest(world, "job"), limit_s=60)
            assert (reason(world, "job"), receipt(world, "job").verdict) == ("preempted", "retry")
            assert world.queues["shared"].messages["shared-0"].gone is None

    run_virtual(main())


@pytest.mark.parametrize(
    ("job", "how"),
    [
        ({"command": ["run", "3", "0", "1"]}, "output_failed"),
        ({"command": ["run", "3", "3", "1"]}, "failed"),
        ({"command": ["run", "900", "0", "1"], "timeout": "20s"}, "timeout"),
    ],
)
def test_outputs_that_cannot_be_stored_change_only_a_success(job: dict[str, object], how: str) -> None:
    """A job that failed by itself must not be tried again for ever because its store said no as well."""

    async def main() -> None:
        world = FakeWorld()
        world.troubles["store.put"] = raises(Refused("forbidden"))
        await put(world, "own", id="job", outputs=OUTPUTS, **job)
        async with alive(world):
            await until(lambda: newest(world, "job"))
        assert receipt(world, "job").end_reason == how
        assert [output.problem for output in receipt(world, "job").outputs] == ["forbidden"]

    run_virtual(main())


def test_a_journal_that_cannot_be_read_at_the_start_ends_the_runner() -> None:
    """A runner that took nothing back, and reads no queue, must not look as if it worked."""

    async def main() -> None:
        world = FakeWorld()
        world.troubles["journal.in_flight"] = raises(ConfigurationError("the journal cannot be read: move it away"))
        life = new_life(1)
        runner = build(configuration(), world.open(life))
        with pytest.raises(ConfigurationError, match="the journal cannot be read"):
            await asyncio.wait_for(runner.run(), 60)
        life.end()

    run_virtual(main())


def test_a_journal_that_is_away_at_the_start_is_waited_for() -> None:
    """Only what cannot be mended by waiting ends the runner."""

    async def main() -> None:
        world = FakeWorld()
        world.troubles["journal.in_flight"] = raises(Unavailable("busy"), times=8)
        await put(world, "own", id="job")
        async with alive(world):
            await until(lambda: ended(world, "job"), limit_s=200)

    run_virtual(main())


def test_a_result_backend_that_refuses_makes_only_its_own_jobs_wait() -> None:
    """Its owner must mend it, which takes a while; nobody else's jobs may pay for that, and no fault is counted."""

    async def main() -> None:
        world = FakeWorld()

        async def refuse(told: Receipt) -> None:
            if told.queue == "shared":
                raise ConfigurationError("the results directory may not be written")

        world.troubles["results.put_receipt"] = refuse
        for number in range(6):
            await put(world, "shared", id=f"waits-{number}", resources=A_THIRD)
        async with alive(world):
            await asyncio.sleep(100)
            for number in range(6):
                await put(world, "own", id=f"passes-{number}", resources=A_THIRD)
            await until(lambda: ended(world, *(f"passes-{number}" for number in range(6))), limit_s=100)
            await asyncio.sleep(1000)
            entries = world.journal.entries.values()
            assert {entry.state for entry in entries if entry.claimed.claim.queue_name == "shared"} == {"storing"}
            assert [None] * 12 == [entry.faulted for entry in entries]
            world.troubles.clear()
            await until(lambda: not world.waiting(), limit_s=120)
        assert set(world.containers.starts.values()) == {1}
        assert {receipt.end_reason for receipt in world.results.receipts.values()} == {"succeeded"}

    run_virtual(main())


@pytest.mark.parametrize("call", ["results.put_log", "store.put_bytes", "workspaces.remove", "results.clear_stop"])
def test_a_courtesy_that_never_works_does_not_keep_a_job(call: str) -> None:
    """A log archive is worth some minutes of waiting; the verdict is worth more."""

    async def main() -> None:
        world = FakeWorld()
        world.troubles[call] = raises(OutOfSpace("the disk is full"))
        await put(world, "own", id="job", outputs=OUTPUTS)
        async with alive(world):
            await until(lambda: not world.waiting(), limit_s=1500)
        assert world.queues["own"].messages["own-0"].gone is Verdict.ACK
        assert reason(world, "job") == EndReason.SUCCEEDED

    run_virtual(main())


def test_a_container_that_could_not_be_removed_is_removed_later() -> None:
    """A runtime that was away for some minutes leaves nothing behind on a box that runs for a year."""

    async def main() -> None:
        world = FakeWorld()
        await put(world, "own", id="job")
        world.troubles["containers.remove"] = raises(Unavailable("docker is away"))
        async with alive(world):
            await until(lambda: not world.waiting(), limit_s=300)
            await asyncio.sleep(100)
            assert world.containers.containers
            world.troubles.clear()
            await until(lambda: not world.containers.containers, limit_s=1300)

    run_virtual(main())


@pytest.mark.parametrize("lines", [200, 3])
@pytest.mark.parametrize("trouble", [hangs, raises(Unavailable("the line is cut"))])
def test_a_log_that_hangs_or_breaks_loses_no_line(trouble: object, lines: int) -> None:
    """The line to a runtime dies without a word: what the job wrote meanwhile is read once it is back."""

    async def main() -> None:
        world = FakeWorld()
        await put(world, "own", id="job", command=["run", "40", "0", str(lines)])
        async with alive(world):
            await asyncio.sleep(10)
            world.troubles["containers.attach"] = trouble  # type: ignore[assignment]
            await asyncio.sleep(15)
            world.troubles.clear()
            await until(lambda: ended(world, "job"), limit_s=1000)
        text = world.spool.text(key_of(world, "job"), 1)
        assert text == b"".join(b"line %d\n" % number for number in range(lines))
        assert receipt(world, "job").log.lines == lines

    run_virtual(main())


def test_a_runtime_that_is_away_while_a_failed_job_is_cleared_ends_nothing_else() -> None:
    """One job's bug, then one service's absence: that job is the box's fault, and everything else goes on."""

    async def main() -> None:
        world = FakeWorld()
        await put(world, "own", id="bad", command=["run", "5000", "0", "1"], resources=A_THIRD)
        await put(world, "own", id="good", command=["run", "300", "0", "1"], resources=A_THIRD)
        world.troubles["containers.wait"] = raises(ValueError("a bug in one job's end"), times=1)
        away = raises(Unavailable("docker is away"))
        world.troubles["containers.remove"] = world.troubles["containers.stop"] = away
        async with alive(world):
            await until(lambda: len(world.containers.starts) == 2)
            await asyncio.sleep(60)
            world.troubles.clear()
            await until(lambda: world.results.receipts, limit_s=120)
            (first,) = world.results.receipts.values()
            assert (first.end_reason, first.verdict) == ("runner_fault", "retry")
            assert "ValueError: a bug in one job's end" in first.message
            other = "good" if first.id == "bad" else "bad"
            await until(lambda: ended(world, "good"))
            assert world.containers.starts[f"{key_of(world, other)}.1"] == 1

    run_virtual(main())


@pytest.mark.parametrize("grace_s", [0.0, 30.0])
def test_a_drain_outlives_a_journal_that_cannot_be_read_at_times(grace_s: float) -> None:
    """Every other read fails: what runs is stopped all the same, and its message goes back."""

    async def main() -> None:
        world = FakeWorld()
        await put(world, "shared", id="job", command=["run", "5000", "0", "1"])
        async with alive(world) as runner:
            await until(lambda: world.containers.containers)
            reads = iter(range(1_000_000))

            async def every_other() -> None:
                if next(reads) % 2:
                    raise Unavailable("busy")

            world.troubles["journal.in_flight"] = every_other
            await drain(runner, asyncio.Event(), grace_s)
            assert now() < 100
            assert next(reads) > 2
            assert reason(world, "job") == EndReason.PREEMPTED
        message = world.queues["shared"].messages["shared-0"]
        assert (message.token, message.gone, message.note.faults) == ("", None, 1)

    run_virtual(main())


def test_results_that_refuse_are_told_once_and_no_log_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    """One line for a person to act on, however many jobs wait and however long; another once it is mended."""

    async def main() -> None:
        world = FakeWorld()
        for call in ("results.put_receipt", "sink.write", "sink.close"):
            world.troubles[call] = raises(ConfigurationError("redis://h:6379/0: check username and password"))
        async with alive(world):
            for number in range(4):
                await put(world, "shared", id=f"job-{number}", command=["run", "10", "0", "1"], resources=A_THIRD)
            await asyncio.sleep(300)
            (told,) = stored()
            assert ("ERROR", "shared", None) == (told.levelname, told.queue, told.exc_info)  # type: ignore[attr-defined]
            assert "redis://h:6379/0: check username and password" == told.reason  # type: ignore[attr-defined]
            world.troubles.clear()
            await until(lambda: ended(world, *(f"job-{number}" for number in range(4))), limit_s=120)
            await asyncio.sleep(60)
            assert ["ERROR", "INFO"] == [it.levelname for it in stored()]
            for number in range(4):
                (key,) = {key for key in world.results.lines if key.startswith(f"job-{number}.")}
                assert world.results.lines[key], "its log came after all"
        assert [] == [it.message for it in caplog.records if it.exc_info]

    def stored() -> list[logging.LogRecord]:
        return [it for it in caplog.records if getattr(it, "action", "") == "store"]

    with caplog.at_level(logging.INFO):
        run_virtual(main())
