"""What a runner answers on its control socket while something behind it does not: in time, and saying what."""

from __future__ import annotations

import pytest

from runner.app import Runner
from runner.control import RunningControl
from runner.errors import Refused, Unavailable
from tests.fakes.faults import hangs
from tests.fakes.scenes import alive, ended, now, put, reason, until
from tests.fakes.world import FakeWorld
from tests.virtual_time import run_virtual

CLIENT_WAITS_S = 60.0


async def refusal(runner: Runner, job_id: str) -> str:
    """Cancel in vain, and return what the client is told."""
    with pytest.raises(Unavailable) as told:
        await RunningControl(runner).cancel(job_id)
    return str(told.value)


async def open_queues(runner: Runner) -> None:
    await until(lambda: len(runner.directory.all()) == 2)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("journal.find", "job in the journal: no answer within 10 s"),
        ("queue.withdraw", "queue own: no answer within 10 s; queue shared: no answer within 10 s"),
        (
            "results.get",
            "result backend of queue own: no answer within 10 s; result backend of queue shared: no answer within 10 s",
        ),
    ],
)
def test_who_does_not_answer_is_named_in_time(call: str, told: str) -> None:
    """A client that waits for ever, or hears that there is no such job, cannot tell what to do."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world) as runner:
            await open_queues(runner)
            world.troubles[call] = hangs
            asked_at = now()
            assert told in await refusal(runner, "job")
            assert now() - asked_at < CLIENT_WAITS_S
            world.troubles.clear()
            with pytest.raises(Refused, match="no job 'job' is known here"):
                await RunningControl(runner).cancel("job")

    run_virtual(main())


def test_one_silent_queue_does_not_hide_a_job_in_another() -> None:
    """Its service may be away for hours, which is no reason not to cancel elsewhere."""

    async def main() -> None:
        world = FakeWorld()

        async def hangs_once(_job_id: str) -> None:
            del world.troubles["queue.withdraw"]
            await hangs()

        async with alive(world) as runner:
            await open_queues(runner)
            await put(world, "shared", id="job")
            world.queues["shared"].messages["shared-0"].visible_at = world.now() + 5000.0
            world.troubles["queue.withdraw"] = hangs_once
            assert await RunningControl(runner).cancel("job") == "job is withdrawn from its queue, where it waited"
            await until(lambda: ended(world, "job"), limit_s=60)
        assert reason(world, "job") == "cancelled"

    run_virtual(main())


def test_a_job_is_stopped_in_time_though_no_stop_mark_can_be_set() -> None:
    """The mark is for a runner that is killed just now; this one is not."""

    async def main() -> None:
        world = FakeWorld()
        await put(world, "own", id="job", command=["run", "5000", "0", "1"])
        async with alive(world) as runner:
            await until(lambda: world.containers.containers)
            world.troubles["results.request_stop"] = hangs
            asked_at = now()
            assert await RunningControl(runner).cancel("job") == "job is being stopped on this box"
            assert now() - asked_at < CLIENT_WAITS_S / 2
            await until(lambda: ended(world, "job"), limit_s=60)
        assert reason(world, "job") == "cancelled"

    run_virtual(main())


def test_tables_that_are_asked_of_a_runner_that_ends_say_so() -> None:
    """The socket closes last; a client must hear more than that something failed."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world) as runner:
            await open_queues(runner)
        for table in (RunningControl(runner).sources, RunningControl(runner).gpus):
            with pytest.raises(Unavailable, match=r"the table of .*: it was stopped before it answered; ask again"):
                await table()

    run_virtual(main())
