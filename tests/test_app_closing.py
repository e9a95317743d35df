"""What a runner opens for its queues: closed as soon as nobody needs it, and waited for where it is away."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from runner.app import Runner
from runner.control import RunningControl
from runner.credential import CredentialFile
from runner.errors import Unavailable
from tests.fakes.faults import hangs, raises
from tests.fakes.queue import FakeQueue
from tests.fakes.scenes import alive, ended, put, reason, until
from tests.fakes.world import FakeWorld, key_of
from tests.virtual_time import run_virtual

AWAY = raises(Unavailable("its service is away"))


def elsewhere(world: FakeWorld, file: CredentialFile, url: str = "fake:other", **rights: object) -> CredentialFile:
    """Return a credential file that names another service."""
    assert file.credential is not None
    world.queues.setdefault("other", FakeQueue("other", world.now))
    changed = msgspec.structs.replace(file.credential.rights, **rights)
    credential = msgspec.structs.replace(file.credential, url=url, rights=changed)
    return msgspec.structs.replace(file, content=f"{url} {rights}", credential=credential)


def restarts(runner: Runner, name: str) -> int:
    return next(child.restarts for child in runner.children() if child.name == name)


def open_now(world: FakeWorld, name: str) -> int:
    return world.ledger.open[name]


def test_a_file_that_names_another_service_closes_the_one_before() -> None:
    """Its connection, and the thread behind it, would stand until the runner ends."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            await until(lambda: open_now(world, "queue shared"))
            world.shown[1] = elsewhere(world, world.shown[1])
            await put(world, "other", id="job")
            await until(lambda: ended(world, "job"), limit_s=60)
            await until(lambda: open_now(world, "broker shared") == open_now(world, "results shared") == 0, limit_s=30)
            assert open_now(world, "broker other") == open_now(world, "results other") == 1

    run_virtual(main())


def test_a_file_that_names_another_result_backend_uses_that_one() -> None:
    """A job's results stay where it was claimed for; the next job's go where the file says now."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            await put(world, "shared", id="runs", command=["run", "60", "0", "1"])
            await until(lambda: world.containers.containers)
            world.shown[1] = elsewhere(world, world.shown[1], "fake:shared", results="folder:///elsewhere")
            await until(lambda: ended(world, "runs"))
            await until(lambda: world.ledger.opened["results shared"] == 2, limit_s=60)
            assert open_now(world, "results shared") == 1

    run_virtual(main())


def test_a_file_that_goes_and_comes_back_leaves_nothing_open() -> None:
    """Somebody's deployment may write it anew every hour."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            for number in range(1, 6):
                await until(lambda: open_now(world, "queue shared"), limit_s=60)
                assert world.ledger.opened["broker shared"] == number
                gone = world.shown.pop()
                await until(lambda: not open_now(world, "broker shared"), limit_s=60)
                assert open_now(world, "queue shared") == open_now(world, "results shared") == 0
                world.shown.append(gone)

    run_virtual(main())


def test_a_service_whose_queues_were_never_listed_is_closed_too() -> None:
    """No poller of it ever stood, so none can end."""

    async def main() -> None:
        world = FakeWorld()
        world.troubles["broker.queues"] = AWAY
        async with alive(world):
            await until(lambda: open_now(world, "broker shared"))
            world.shown.pop()
            await until(lambda: not open_now(world, "broker shared"), limit_s=60)

    run_virtual(main())


def test_sources_that_crash_leave_no_service_open() -> None:
    """What no poller reads yet is opened anew by whoever comes after the crash."""

    async def main() -> None:
        world = FakeWorld()
        world.troubles["broker.queues"] = AWAY
        async with alive(world) as runner:
            await until(lambda: open_now(world, "broker shared"))
            world.troubles["credentials.scan"] = raises(OSError(5, "Input/output error"), times=3)
            await until(lambda: restarts(runner, "sources") == 3)
            await asyncio.sleep(30)
            assert open_now(world, "broker shared") == open_now(world, "broker own") == 1

    run_virtual(main())


@pytest.mark.parametrize("file", ["is gone", "comes back"])
def test_sources_that_crash_as_a_poller_ends_let_it_end(file: str) -> None:
    """Else it stands there for ever, told of what no instance hears any more, and its queue is never read again."""

    async def main() -> None:
        world = FakeWorld()
        world.queues["shared"].closing_s = 4.0
        async with alive(world) as runner:
            await until(lambda: open_now(world, "queue shared"))
            gone = world.shown.pop()
            await until(lambda: world.queues["shared"].closing, limit_s=60)
            runner.address("sources").urgent("what it does not know")
            await until(lambda: restarts(runner, "sources") == 1)
            if file == "comes back":
                world.shown.append(gone)
                await put(world, "shared", id="job")
                await until(lambda: ended(world, "job"), limit_s=60)
            else:
                await until(lambda: not open_now(world, "broker shared"), limit_s=60)
                assert [row.file for row in await RunningControl(runner).sources()] == ["own"]

    run_virtual(main())


def test_a_result_backend_is_opened_once_however_long_its_broker_is_away() -> None:
    """It was opened again at every try, each with threads of its own."""

    async def main() -> None:
        world = FakeWorld()
        world.troubles["broker.open"] = AWAY
        async with alive(world):
            await asyncio.sleep(600)
            assert world.ledger.opened["results shared"] == 1
            del world.troubles["broker.open"]
            await put(world, "shared", id="job")
            await until(lambda: ended(world, "job"), limit_s=120)
            assert (world.ledger.opened["results shared"], world.ledger.opened["sinks"]) == (1, 2)

    run_virtual(main())


def test_a_poller_that_crashes_again_and_again_opens_nothing_again_but_its_queue() -> None:
    """What others store with goes on below them, and neither backends nor sinks grow in number."""

    async def main() -> None:
        world = FakeWorld()
        world.troubles["results.put_receipt"] = AWAY
        await put(world, "shared", id="job")
        async with alive(world) as runner:
            await until(lambda: world.spool.seals)
            world.troubles["queue.depth"] = raises(OSError(5, "Input/output error"), times=24)
            await until(lambda: restarts(runner, "poller shared shared") >= 8, limit_s=2500)
            world.troubles.clear()
            await until(lambda: ended(world, "job"), limit_s=120)
            assert (world.ledger.opened["results shared"], world.ledger.opened["sinks"]) == (1, 2)
            await until(lambda: open_now(world, "queue shared") == 1, limit_s=60)
        assert reason(world, "job") == "succeeded"

    run_virtual(main())


@pytest.mark.parametrize("file", ["goes", "comes back"])
def test_a_log_is_told_to_its_end_after_its_queue_was_settled(file: str) -> None:
    """The file goes while a job runs; who follows that job at the result backend must see how it ended."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            await put(world, "shared", id="job", command=["run", "10", "0", "5"])
            await until(lambda: world.containers.containers)
            world.troubles["sink.write"] = AWAY
            gone = world.shown.pop()
            await until(lambda: not world.waiting(), limit_s=120)
            await asyncio.sleep(60)
            assert open_now(world, "results shared") == 1
            if file == "comes back":
                world.shown.append(gone)
                await put(world, "shared", id="next")
                await until(lambda: ended(world, "next"), limit_s=60)
            world.troubles.clear()
            await until(lambda: not open_now(world, "results shared") or file == "comes back", limit_s=60)
            await asyncio.sleep(60)
            told = [event.state for event in world.results.events[key_of(world, "job")]]
            assert told[-1] == "ended"
            assert len(world.results.lines[key_of(world, "job")]) >= 5

    run_virtual(main())


@asynccontextmanager
async def away(world: FakeWorld, queue: str) -> AsyncIterator[None]:
    """Let the pollers crash, and be away when this is entered; they may come back when it is left."""
    world.troubles["queue.depth"] = raises(OSError(5, "Input/output error"))
    await until(lambda: not open_now(world, f"queue {queue}"), limit_s=120)
    yield
    del world.troubles["queue.depth"]


@pytest.mark.parametrize("call", ["spool.seal", "store.put_bytes"])
def test_a_poller_that_is_away_as_a_job_is_stored_costs_neither_log_nor_receipt(call: str) -> None:
    """A backend that is away is not the same as none: nobody could see what became of the job."""

    async def main() -> None:
        world = FakeWorld()

        async def crash(*_args: object) -> None:
            if world.troubles.pop(call, None):
                async with away(world, "shared"):
                    pass

        world.troubles[call] = crash
        await put(world, "shared", id="job", outputs=[{"path": "o", "url": "folder:///r"}])
        async with alive(world):
            await until(lambda: not world.waiting(), limit_s=500)
            assert reason(world, "job") == "succeeded"
            assert list(world.results.archives) == [(key_of(world, "job"), 1)]

    run_virtual(main())


def test_an_upload_is_waited_for_where_its_queue_is_not_open_yet() -> None:
    """A job that was being staged when the runner was killed is staged again before any queue is open."""

    async def main() -> None:
        world = FakeWorld()
        world.troubles["results.get_upload"] = hangs
        await put(world, "shared", id="job", inputs=[{"path": "x", "url": "upload:sha256/0"}])
        async with alive(world, killed=True):
            await until(lambda: world.blobs.files, limit_s=60)
        world.troubles.clear()
        async with alive(world):
            await until(lambda: ended(world, "job"), limit_s=120)
        assert (reason(world, "job"), world.queues["shared"].messages["shared-0"].note.faults) == ("succeeded", 0)

    run_virtual(main())


def test_a_stop_mark_is_cleared_after_a_kill_too() -> None:
    """Else it ends the next job of this id, which nobody wanted stopped."""

    async def main() -> None:
        world = FakeWorld()
        await world.results.request_stop("job")
        world.troubles["results.clear_stop"] = world.troubles["queue.settle"] = hangs
        await put(world, "shared", id="job")
        async with alive(world, killed=True):
            await until(lambda: ended(world, "job"), limit_s=60)
            await asyncio.sleep(1)
        world.troubles.clear()
        async with alive(world):
            await until(lambda: not world.results.marks, limit_s=60)

    run_virtual(main())


def test_the_end_of_a_job_is_no_work_where_nobody_is_told_of_it() -> None:
    """As in RabbitMQ and SQS without ``results``: each job would keep the processor busy for ever."""
    reads = itertools.count(1)

    async def not_often(*_args: object) -> None:
        if next(reads) > 1000:
            raise RuntimeError("the journal is read again and again")

    async def main() -> None:
        world = FakeWorld()
        world.without_results.add("shared")
        world.troubles["journal.entry"] = not_often
        async with alive(world):
            for number in range(3):
                await put(world, "shared", id=f"job {number}", command=["run", "1", "0", "5"])
            await until(lambda: len(world.queues["shared"].final) == 3, limit_s=60)
            await asyncio.sleep(60)
        assert next(reads) < 200

    run_virtual(main())
