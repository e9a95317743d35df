"""
The edge of the ring: credential files and pollers that break, come back, or stand there twice, while jobs run on.
"""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from runner.app import Runner
from runner.control import RunningControl
from runner.credential import CredentialFile
from runner.errors import ConfigurationError
from runner.receipt import QueueRow
from tests.fakes.faults import raises
from tests.fakes.scenes import alive, ended, put, reason, until
from tests.fakes.world import FakeWorld
from tests.virtual_time import run_virtual

A_THIRD = {"cpus": 0.3}
SERVED_S = 60.0


def with_rights(file: CredentialFile, **rights: object) -> CredentialFile:
    """Return a credential file with new content behind the same name."""
    assert file.credential is not None
    changed = msgspec.structs.replace(file.credential.rights, **rights)
    credential = msgspec.structs.replace(file.credential, rights=changed)
    return msgspec.structs.replace(file, content=f"{file.content} {rights}", credential=credential)


async def queue_row(runner: Runner, file: str) -> QueueRow:
    (row,) = [row for row in await RunningControl(runner).sources() if row.file == file]
    (queue,) = row.queues
    return queue


def restarts(runner: Runner) -> dict[str, int]:
    return {child.name: child.restarts for child in runner.children() if child.group == "edge"}


async def is_served(world: FakeWorld, queue: str, job_id: str) -> bool:
    """Tell whether a small job that is put now is soon done."""
    await put(world, queue, id=job_id, command=["run", "1", "0", "1"], resources=A_THIRD)
    try:
        await until(lambda: ended(world, job_id), limit_s=SERVED_S)
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("crashes", [1, 20])
def test_sources_that_crash_come_back_and_keep_their_pollers(crashes: int) -> None:
    """Whatever a scan may raise: what runs is settled, its queue is read on, and a new file is still found."""

    async def main() -> None:
        world = FakeWorld()
        shared = world.shown.pop()
        await put(world, "own", id="long", command=["run", "1000", "0", "1"], resources=A_THIRD)
        async with alive(world) as runner:
            await until(lambda: world.containers.containers)
            world.troubles["credentials.scan"] = raises(OSError(5, "Input/output error"), times=crashes)
            await until(lambda: restarts(runner)["sources"] == crashes)
            assert restarts(runner)["poller own own"] == 0
            assert await is_served(world, "own", "meanwhile")
            await asyncio.sleep(60)
            world.shown.append(shared)
            assert await is_served(world, "shared", "new file")
            assert await queue_row(runner, "own") == QueueRow("own", 0, "polling")
            await until(lambda: ended(world, "long"))
        assert set(world.queues["own"].final.values()) == {1}

    run_virtual(main())


def test_sources_that_crashed_still_see_a_file_go() -> None:
    """The pollers that outlived them are found again, not only left alone."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world) as runner:
            await asyncio.sleep(20)
            world.troubles["credentials.scan"] = raises(OSError(5, "Input/output error"), times=1)
            await until(lambda: restarts(runner)["sources"] == 1)
            await asyncio.sleep(30)
            world.shown.pop()
            await until(lambda: "poller shared shared" not in restarts(runner), limit_s=120)
            assert not await is_served(world, "shared", "too late")

    run_virtual(main())


def test_a_poller_that_crashes_is_restarted_for_ever() -> None:
    """A queue that is given up is a queue that nobody reads until a person comes by."""

    async def main() -> None:
        world = FakeWorld()
        await put(world, "own", id="long", command=["run", "3000", "0", "1"], resources=A_THIRD)
        async with alive(world) as runner:
            await until(lambda: world.containers.containers)
            world.troubles["queue.depth"] = raises(OSError(5, "Input/output error"), times=30)
            await until(lambda: restarts(runner)["poller own own"] > 12, limit_s=2500)
            del world.troubles["queue.depth"]
            assert await is_served(world, "own", "after")
            await until(lambda: ended(world, "long"))

    run_virtual(main())


def test_a_result_backend_that_cannot_be_opened_is_told_and_tried_again() -> None:
    """The queue is not read meanwhile, since nothing of its jobs could be stored."""

    async def main() -> None:
        world = FakeWorld()
        world.unopenable["shared"] = ConfigurationError("results redis://x: write folder:///absolute/path")
        async with alive(world) as runner:
            assert not await is_served(world, "shared", "waits")
            state = (await queue_row(runner, "shared")).state
            assert state == "backing off: results redis://x: write folder:///absolute/path"
            assert restarts(runner)["poller shared shared"] == 0
            assert await is_served(world, "own", "passes")
            world.unopenable.clear()
            await until(lambda: ended(world, "waits"), limit_s=SERVED_S)

    run_virtual(main())


def test_a_credential_file_that_is_unusable_for_a_moment_leaves_its_queue_alone() -> None:
    """An editor writes in two steps; the queue is read on with what the file said before."""

    async def main() -> None:
        world = FakeWorld()
        good = world.shown[1]
        async with alive(world) as runner:
            await put(world, "shared", id="long", command=["run", "900", "0", "1"], resources=A_THIRD)
            await until(lambda: world.containers.containers)
            world.shown[1] = msgspec.structs.replace(good, credential=None, content="half", reason="not TOML")
            await asyncio.sleep(12)
            (row,) = [row for row in await RunningControl(runner).sources() if row.file == "shared"]
            assert (row.state, row.reason) == ("in use", "as it was before: not TOML")
            assert await is_served(world, "shared", "meanwhile")
            world.shown[1] = good
            await asyncio.sleep(12)
            assert await is_served(world, "shared", "after")
            assert not ended(world, "long")

    run_virtual(main())


def test_a_credential_file_that_comes_back_is_read_again_though_its_job_still_runs() -> None:
    """Else one long job keeps its whole queue shut."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            await put(world, "shared", id="long", command=["run", "2000", "0", "1"], resources=A_THIRD)
            await until(lambda: world.containers.containers)
            gone = world.shown.pop()
            await asyncio.sleep(15)
            assert not await is_served(world, "shared", "while it is gone")
            world.shown.append(gone)
            await until(lambda: ended(world, "while it is gone"), limit_s=SERVED_S)
            assert not ended(world, "long")
            await until(lambda: ended(world, "long"))
        assert world.queues["shared"].closed == 1, "it was closed while a job of it ran"

    run_virtual(main())


@pytest.mark.parametrize("removed", ["shared", "the copy"])
@pytest.mark.parametrize("runs", ["a job runs", "nothing runs"])
def test_of_two_files_for_one_queue_either_may_go(removed: str, runs: str) -> None:
    """A file that was copied: the second waits, says so, and takes over when the first goes."""

    async def main() -> None:
        world = FakeWorld()
        copy = msgspec.structs.replace(world.shown[1], file="the copy")
        async with alive(world) as runner:
            assert await is_served(world, "shared", "before")
            world.shown.append(copy)
            await asyncio.sleep(15)
            state = (await queue_row(runner, "the copy")).state
            assert state == "waiting: credential file shared serves this queue already"
            if runs == "a job runs":
                await put(world, "shared", id="long", command=["run", "100", "0", "1"], resources=A_THIRD)
                await until(lambda: world.containers.containers)
            world.shown[:] = [file for file in world.shown if file.file != removed]
            await until(lambda: ended(world, "long") or runs == "nothing runs")
            await asyncio.sleep(6)
            assert await is_served(world, "shared", "after")
            (left,) = [row.file for row in await RunningControl(runner).sources() if row.file != "own"]
            assert left != removed
            del world.shown[1:]
            await until(lambda: f"poller {left} shared" not in restarts(runner), limit_s=120)
        assert not world.waiting()
        assert set(world.queues["shared"].final.values()) == {1}

    run_virtual(main())


def test_new_rights_outlive_a_restart_of_the_poller() -> None:
    """What was revoked must not come back by a crash."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world) as runner:
            assert await is_served(world, "shared", "allowed")
            world.shown[1] = with_rights(world.shown[1], runtime="container")
            await asyncio.sleep(20)
            world.troubles["queue.depth"] = raises(OSError(5, "Input/output error"))
            await until(lambda: restarts(runner)["poller shared shared"], limit_s=100)
            world.troubles.clear()
            await asyncio.sleep(30)
            assert await is_served(world, "shared", "revoked")
        assert (reason(world, "allowed"), reason(world, "revoked")) == ("succeeded", "rejected")

    run_virtual(main())


def test_rights_that_changed_before_sources_crashed_hold_afterwards() -> None:
    """A poller that is found again learns what the file says now."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world) as runner:
            assert await is_served(world, "shared", "allowed")
            world.troubles["credentials.scan"] = raises(OSError(5, "Input/output error"), times=1)
            world.shown[1] = with_rights(world.shown[1], runtime="container")
            await until(lambda: restarts(runner)["sources"] == 1)
            await asyncio.sleep(30)
            assert await is_served(world, "shared", "revoked")
        assert (reason(world, "allowed"), reason(world, "revoked")) == ("succeeded", "rejected")

    run_virtual(main())


def test_sources_that_crash_as_a_file_goes_stop_its_poller_all_the_same() -> None:
    """A file that was taken away while nobody looked is a right that was taken away."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world) as runner:
            await asyncio.sleep(20)
            world.troubles["credentials.scan"] = raises(OSError(5, "Input/output error"), times=3)
            world.shown.pop()
            await until(lambda: restarts(runner)["sources"] == 3)
            await until(lambda: "poller shared shared" not in restarts(runner), limit_s=120)
            assert not await is_served(world, "shared", "too late")

    run_virtual(main())


def test_a_poller_that_crashes_as_it_finishes_does_not_begin_to_fetch_again() -> None:
    """It was told once that its file is gone; what it is restarted with must say so, too."""

    async def main() -> None:
        world = FakeWorld()
        async with alive(world) as runner:
            await put(world, "shared", id="long", command=["run", "400", "0", "1"], resources=A_THIRD)
            await until(lambda: world.containers.containers)
            world.shown.pop()
            await asyncio.sleep(15)
            world.troubles["queue.depth"] = raises(OSError(5, "Input/output error"))
            await until(lambda: restarts(runner)["poller shared shared"], limit_s=100)
            world.troubles.clear()
            assert not await is_served(world, "shared", "too late")
            await until(lambda: ended(world, "long"))
            await until(lambda: "poller shared shared" not in restarts(runner), limit_s=120)
        assert set(world.queues["shared"].final.values()) == {1}

    run_virtual(main())
