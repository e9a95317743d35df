"""What every container runtime does with names: one start each, also for a later life of the runner, and a full end."""

from __future__ import annotations

import asyncio
import time

import pytest

from runner.ports import Running
from tests.conformance.container_harness import MEMORY_BYTES, OTHER_BOX, Harness
from tests.conformance.container_steps import LIMIT_S, OBEDIENT, STUBBORN, end, output, ran, until_it_says

pytestmark = pytest.mark.integration

SLEEPING = "import time; time.sleep(60)"


def test_a_name_starts_once_however_often_it_is_asked(harness: Harness) -> None:
    """A start is repeated after a crash between the journal and the runtime."""

    async def main() -> None:
        spec = harness.spec("job", "sh", "-c", "echo x >> starts; echo ready; while :; do sleep 0.01; done")
        async with harness.open() as containers:
            answers = await asyncio.gather(*(containers.start(spec) for _ in range(5)))
            await until_it_says(containers, "job", b"ready")
            answers.append(await containers.start(spec))
            assert len({(answer.pid, answer.started_at) for answer in answers}) == 1
        async with harness.open() as again:
            assert await again.start(spec) == answers[0]

    asyncio.run(main())
    assert (harness.workspace("job") / "starts").read_text() == "x\n"


def test_a_name_that_ended_does_not_start_again(harness: Harness) -> None:
    async def main() -> None:
        spec = harness.spec("job", "sh", "-c", "echo x >> starts; exit 7")
        async with harness.open() as containers:
            await containers.start(spec)
            await end(containers, "job")
            await containers.start(spec)
            assert (await end(containers, "job")).code == 7

    asyncio.run(main())
    assert (harness.workspace("job") / "starts").read_text() == "x\n"


def test_a_later_life_adopts_what_runs_with_all_output_and_the_real_exit_code(harness: Harness) -> None:
    """Killing the runner is a normal way to stop it."""
    script = "echo one; echo ready; while [ ! -e go ]; do sleep 0.01; done; echo two; exit 7"

    async def main() -> None:
        async with harness.open() as containers:
            started = await containers.start(harness.spec("job", "sh", "-c", script))
            await until_it_says(containers, "job", b"ready")
        async with harness.open() as containers:
            assert await containers.adopt("job") == started
            (harness.workspace("job") / "go").touch()
            assert await output(containers, "job", {"stdout": 4}) == {"stdout": b"ready\ntwo\n", "stderr": b""}
            assert (await end(containers, "job")).code == 7

    asyncio.run(main())


def test_an_end_that_nobody_saw_is_told_at_once(harness: Harness) -> None:
    async def main() -> None:
        async with harness.open() as containers:
            started = await containers.start(harness.spec("job", "sh", "-c", "echo said; exit 7"))
            seen = await end(containers, "job")
        async with harness.open() as containers:
            assert await containers.adopt("job") == started
            ended = await end(containers, "job")
            assert (ended.code, ended.ended_at) == (seen.code, seen.ended_at) == (7, seen.ended_at)
            assert (await output(containers, "job"))["stdout"] == b"said\n"

    asyncio.run(main())


def test_everybody_who_waits_is_told(harness: Harness) -> None:
    async def main() -> None:
        async with harness.open() as containers:
            await containers.start(harness.spec("job", "sh", "-c", "while [ ! -e go ]; do sleep 0.01; done; exit 7"))
            waiting = [asyncio.create_task(end(containers, "job")) for _ in range(3)]
            abandoned = asyncio.create_task(end(containers, "job"))
            await asyncio.wait({abandoned}, timeout=0)
            abandoned.cancel()
            (harness.workspace("job") / "go").touch()
            assert {ended.code for ended in await asyncio.gather(*waiting)} == {7}

    asyncio.run(main())


def test_stop_lets_a_job_end_by_itself_within_the_grace(harness: Harness) -> None:
    async def main() -> None:
        async with harness.open() as containers:
            await containers.start(harness.spec("job", "sh", "-c", OBEDIENT))
            await until_it_says(containers, "job", b"ready")
            await containers.stop("job", LIMIT_S)
            assert (await end(containers, "job")).code == 3
            assert (await output(containers, "job"))["stdout"] == b"ready\nstopping\n"
            await containers.stop("job", LIMIT_S)

    asyncio.run(main())


def test_stop_kills_what_ignores_it_with_all_its_children(harness: Harness) -> None:
    script = f"(trap '' TERM; while :; do echo x >> beats; sleep 0.01; done) & {STUBBORN}"

    async def main() -> None:
        async with harness.open() as containers:
            await containers.start(harness.spec("job", "sh", "-c", script))
            await until_it_says(containers, "job", b"ready")
            await containers.stop("job", 0.05)
            assert (await end(containers, "job")).code == 137
            await containers.remove("job")

    asyncio.run(main())
    beats = harness.workspace("job") / "beats"
    size = beats.stat().st_size
    asyncio.run(_a_moment())
    assert size == beats.stat().st_size, "a child lives on"


async def _a_moment() -> None:
    """Give a process that should be gone the time of a few beats."""
    await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=0.1)


def test_what_a_stop_ended_ended_after_it_was_asked_for(harness: Harness) -> None:
    """However soon: by its end a job is told apart from one that ended by itself before anybody could stop it."""

    async def main() -> None:
        async with harness.open() as containers:
            for name in ("first", "second", "third"):
                await containers.start(harness.spec(name, "python3", "-c", SLEEPING))
                asked_at = time.time()
                await containers.stop(name, 0)
                ended = await end(containers, name)
                assert asked_at <= ended.ended_at + ended.coarse_s
                assert ended.ended_at <= time.time()
                await containers.remove(name)

    asyncio.run(main())


def test_stop_and_remove_of_the_unknown_and_of_the_ended_are_no_errors(harness: Harness) -> None:
    async def main() -> None:
        async with harness.open() as containers:
            await containers.stop("nobody", 1)
            await containers.remove("nobody")
            assert await containers.adopt("nobody") is None
            await ran(harness, containers, "true")
            await containers.stop("job", 1)
            await containers.remove("job")

    asyncio.run(main())


def test_removing_ends_what_runs_and_forgets_the_name(harness: Harness) -> None:
    async def main() -> None:
        spec = harness.spec("job", "sh", "-c", STUBBORN)
        async with harness.open() as containers:
            await containers.start(spec)
            await until_it_says(containers, "job", b"ready")
            await containers.remove("job")
            assert await containers.adopt("job") is None
            assert await containers.list_ours() == ()
            fresh: Running = await containers.start(harness.spec("job", "sh", "-c", "exit 7"))
            assert fresh.name == "job"
            assert (await end(containers, "job")).code == 7

    asyncio.run(main())


def test_only_containers_of_the_same_box_are_ours(harness: Harness) -> None:
    """Two runners may share a machine."""

    async def main() -> None:
        async with harness.open() as containers, harness.open(OTHER_BOX) as others:
            for name in ("job-b", "job-a"):
                await containers.start(harness.spec(name, "true"))
            await others.start(harness.spec("job-c", "true"))
            await end(containers, "job-a")
            assert await containers.list_ours() == ("job-a", "job-b")
            assert await others.list_ours() == ("job-c",)

    asyncio.run(main())


def test_a_job_over_its_memory_is_told_apart_from_one_that_was_killed(harness: Harness) -> None:
    if not harness.limits_memory:
        pytest.skip("this box cannot limit memory")

    async def main() -> None:
        async with harness.open() as containers:
            _, ended = await ran(harness, containers, "python3", "-c", "print(len(bytearray(1 << 30)))")
        assert (ended.code, ended.oom) == (137, True)

    asyncio.run(main())


def test_what_it_used_is_counted_or_said_to_be_unknown(harness: Harness) -> None:
    program = "x = bytearray(50 << 20); print(sum(i * i for i in range(1_000_000)))"

    async def main() -> None:
        async with harness.open() as containers:
            _, ended = await ran(harness, containers, "python3", "-c", program)
        assert (ended.usage.memory_peak is not None) or not harness.limits_memory
        assert 50 << 20 <= (ended.usage.memory_peak or MEMORY_BYTES) <= MEMORY_BYTES
        assert 0.01 < (ended.usage.cpu_seconds or 1) < LIMIT_S

    asyncio.run(main())


def test_what_it_uses_now_can_be_sampled(harness: Harness) -> None:
    program = "x = bytearray(50 << 20); print('ready', flush=True); import time; time.sleep(60)"

    async def main() -> None:
        async with harness.open() as containers:
            await containers.start(harness.spec("job", "python3", "-c", program))
            await until_it_says(containers, "job", b"ready")
            usage = await containers.stats("job")
            assert 50 << 20 <= (usage.memory_peak or 0) <= MEMORY_BYTES
            assert 0 < (usage.cpu_seconds or 0) < LIMIT_S
            await containers.stop("job", 0)

    asyncio.run(main())


def test_isolation_says_what_was_done(harness: Harness) -> None:
    async def main() -> None:
        async with harness.open() as containers:
            running = await containers.start(harness.spec("job", "true"))
            await end(containers, "job")
        assert running.isolation.runtime in {"process", "docker"}
        assert running.isolation.network in {"none", "host"}
        assert running.isolation.gpu in {"enforced", "advisory"}

    asyncio.run(main())
