"""All processes of a job, found and ended by each of the three means: its control group, its user, its family."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.containers.cgroup import Cgroups
from adapters.containers.tree import Tree
from tests.conformance.container_harness import UIDS, ProcessHarness
from tests.conformance.container_steps import STUBBORN, end, lives, output, until_it_says

pytestmark = pytest.mark.integration

UNIFIED = Path("/sys/fs/cgroup/unified")
DAEMON = """
import os, sys, time
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
open("daemon", "w").write(str(os.getpid()))
print("daemon", flush=True)
if "closed" in sys.argv:
    os.close(1), os.close(2)
time.sleep(60)
"""
FORKING = "trap '' TERM; f() { (sleep 0.01; f) & }; f; f; f; f; echo ready; sleep 60"


@pytest.fixture(params=["groups", "version 2", "user", "family"])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ProcessHarness]:
    """Have each means in turn as the only one."""
    if request.param in ("groups", "version 2", "user") and os.geteuid() != 0:
        pytest.skip("control groups and users take root")
    match request.param:
        case "groups":
            made = ProcessHarness(tmp_path, uid_range=None)
        case "version 2":
            if not (UNIFIED / "cgroup.procs").exists():
                pytest.skip("version 2 is not mounted beside version 1 here")
            made = ProcessHarness(tmp_path, uid_range=None, cgroups=Cgroups({"": str(UNIFIED)}, "runner-test."))
        case "user":
            made = ProcessHarness(tmp_path, uid_range=UIDS, cgroups=Cgroups({}))
        case _:
            made = ProcessHarness(tmp_path, uid_range=None, cgroups=Cgroups({}))
    yield made
    asyncio.run(made.clean())


def pid_in(harness: ProcessHarness, name: str) -> int:
    return int((harness.workspace("job") / name).read_text())


def test_what_outlives_the_first_process_is_ended_by_removing(harness: ProcessHarness) -> None:
    """Also a process that left its parent, its session and its streams behind."""

    async def main() -> int:
        async with harness.open() as containers:
            await containers.start(harness.spec("job", "python3", "-c", DAEMON, "closed"))
            assert (await end(containers, "job")).code == 0
            await until_it_says(containers, "job", b"daemon")
            daemon = pid_in(harness, "daemon")
            assert lives(daemon)
            await containers.remove("job")
            return daemon

    assert not lives(asyncio.run(main()))


def test_output_of_what_outlives_the_first_process_is_followed_to_its_end(harness: ProcessHarness) -> None:
    script = "(while [ ! -e go ]; do sleep 0.01; done; echo late) & echo early; exit 7"

    async def main() -> None:
        async with harness.open() as containers:
            await containers.start(harness.spec("job", "sh", "-c", script))
            following = asyncio.create_task(output(containers, "job"))
            assert (await end(containers, "job")).code == 7
            (harness.workspace("job") / "go").touch()
            assert (await following)["stdout"] == b"early\nlate\n"

    asyncio.run(main())


def test_stopping_reaches_a_process_that_left_its_session(harness: ProcessHarness) -> None:
    async def main() -> None:
        async with harness.open() as containers:
            await containers.start(harness.spec("job", "sh", "-c", f"python3 -c '{DAEMON}'; {STUBBORN}"))
            for word in (b"ready", b"daemon"):
                await until_it_says(containers, "job", word)
            daemon = pid_in(harness, "daemon")
            assert lives(daemon)
            await containers.stop("job", 0.05)
            assert (await end(containers, "job")).code == 137
            assert not lives(daemon)

    asyncio.run(main())


def test_children_that_still_save_have_the_grace_too(harness: ProcessHarness) -> None:
    child = "trap 'sleep 0.2; echo saved; exit' TERM; echo child; while :; do sleep 0.01; done"
    script = f"sh -c '{child.replace(chr(39), chr(34))}' & trap 'exit 3' TERM; wait"

    async def main() -> None:
        async with harness.open() as containers:
            await containers.start(harness.spec("job", "sh", "-c", script))
            await until_it_says(containers, "job", b"child")
            await containers.stop("job", 20)
            assert (await output(containers, "job"))["stdout"] == b"child\nsaved\n"

    asyncio.run(main())


def test_a_job_that_kills_its_whole_group_tells_its_own_end(harness: ProcessHarness) -> None:
    async def main() -> None:
        async with harness.open() as containers:
            await containers.start(harness.spec("job", "sh", "-c", "sleep 60 & echo gone; kill -9 0"))
            ended = await end(containers, "job")
            assert (ended.code, ended.message) == (137, "")

    asyncio.run(main())


def test_a_job_that_forks_all_the_time_is_ended_whole(harness: ProcessHarness) -> None:
    async def main() -> None:
        async with harness.open() as containers:
            await containers.start(harness.spec("job", "sh", "-c", FORKING))
            await until_it_says(containers, "job", b"ready")
            await containers.stop("job", 0)
            assert (await end(containers, "job")).code == 137
            await containers.remove("job")

    asyncio.run(main())


def test_nothing_of_the_box_is_counted_as_the_jobs(harness: ProcessHarness) -> None:
    async def main() -> None:
        async with harness.open() as containers:
            running = await containers.start(harness.spec("job", "sh", "-c", f"sleep 60 & {STUBBORN}"))
            await until_it_says(containers, "job", b"ready")
            tree: Tree | None = containers.tree("job")
            assert tree is not None
            assert running.pid in tree.pids()
            assert len(tree.pids()) <= 3
            assert os.getpid() not in tree.pids()

    asyncio.run(main())
