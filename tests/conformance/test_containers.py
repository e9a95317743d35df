"""What every container runtime does: one start per name, all output, the real end, also for a later life of the runner."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from runner.errors import BadInput
from runner.ports import Chunk, Containers, Exit, Running
from tests.conformance.container_harness import OTHER_BOX, Harness, ProcessHarness

pytestmark = pytest.mark.integration

LIMIT_S = 30.0
OBEDIENT = "trap 'echo stopping; exit 3' TERM; echo ready; while :; do sleep 0.01; done"
STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.01; done"


@pytest.fixture(params=["process"])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    """Give each runtime in turn, and end whatever a test left."""
    made: Harness = ProcessHarness(tmp_path)
    yield made
    asyncio.run(made.clean())


async def output(containers: Containers, name: str, skip: Mapping[str, int] | None = None) -> dict[str, bytes]:
    """Return all that the job writes to each stream, until its end."""
    streams = {"stdout": b"", "stderr": b""}
    async with asyncio.timeout(LIMIT_S):
        async for chunk in containers.attach(name, skip or {}):
            streams[chunk.stream] += chunk.data
    return streams


async def end(containers: Containers, name: str) -> Exit:
    async with asyncio.timeout(LIMIT_S):
        return await containers.wait(name)


@asynccontextmanager
async def attached(containers: Containers, name: str) -> AsyncIterator[AsyncIterator[Chunk]]:
    stream = containers.attach(name, {})
    async with aclosing(stream), asyncio.timeout(LIMIT_S):  # type: ignore[type-var] # the port's iterators are generators
        yield stream


async def until_it_says(containers: Containers, name: str, word: bytes) -> None:
    """Wait until the job wrote a word to one of its streams."""
    heard = b""
    async with attached(containers, name) as chunks:
        async for chunk in chunks:
            heard += chunk.data
            if word in heard:
                return
    pytest.fail(f"ended without {word!r}, after {heard!r}")


async def ran(harness: Harness, containers: Containers, *command: str) -> tuple[dict[str, bytes], Exit]:
    """Run a job from start to removal."""
    await containers.start(harness.spec("job", *command))
    written = await output(containers, "job")
    ended = await end(containers, "job")
    await containers.remove("job")
    return written, ended


def test_each_stream_comes_whole_and_the_exit_code_is_the_jobs_own(harness: Harness) -> None:
    async def main() -> None:
        async with harness.open() as containers:
            written, ended = await ran(harness, containers, "sh", "-c", "echo out; echo err >&2; echo more; exit 7")
        assert written == {"stdout": b"out\nmore\n", "stderr": b"err\n"}
        assert (ended.code, ended.oom, ended.not_started) == (7, False, False)

    asyncio.run(main())


@pytest.mark.parametrize("code", [0, 1, 126, 127, 255])
def test_no_exit_code_is_taken_for_anything_else(harness: Harness, code: int) -> None:
    """A job may well exit 127 itself."""

    async def main() -> None:
        async with harness.open() as containers:
            _, ended = await ran(harness, containers, "sh", "-c", f"exit {code}")
        assert (ended.code, ended.not_started) == (code, False)

    asyncio.run(main())


def test_a_signals_number_is_told_as_shells_do(harness: Harness) -> None:
    async def main() -> None:
        async with harness.open() as containers:
            written, ended = await ran(harness, containers, "python3", "-c", "import os; os.kill(os.getpid(), 9)")
        assert (ended.code, ended.oom) == (137, False)
        assert written == {"stdout": b"", "stderr": b""}, "nobody but the job writes to its streams"

    asyncio.run(main())


def test_bytes_are_kept_as_they_are_also_without_a_last_newline(harness: Harness) -> None:
    program = "import sys; sys.stdout.buffer.write(bytes(range(256)) + b'end')"

    async def main() -> None:
        async with harness.open() as containers:
            written, _ = await ran(harness, containers, "python3", "-c", program)
        assert written["stdout"] == bytes(range(256)) + b"end"

    asyncio.run(main())


def test_a_burst_before_the_exit_comes_whole_in_chunks_of_64_kib_at_most(harness: Harness) -> None:
    program = "import sys; sys.stdout.write(''.join(f'{i:07}\\n' for i in range(131072)))"

    async def main() -> None:
        async with harness.open() as containers:
            await containers.start(harness.spec("job", "python3", "-c", program))
            async with attached(containers, "job") as chunks:
                sizes = []
                written = b""
                async for chunk in chunks:
                    sizes.append(len(chunk.data))
                    written += chunk.data
        assert written == b"".join(b"%07d\n" % i for i in range(131072))
        assert max(sizes) <= 65536

    asyncio.run(main())


def test_output_comes_while_the_job_runs(harness: Harness) -> None:
    async def main() -> None:
        async with harness.open() as containers:
            await containers.start(harness.spec("job", "sh", "-c", STUBBORN))
            await until_it_says(containers, "job", b"ready")
            await containers.stop("job", 0)

    asyncio.run(main())


def test_skipped_bytes_do_not_come_again(harness: Harness) -> None:
    """A runner that restarts goes on behind what its spool holds."""

    async def main() -> None:
        async with harness.open() as containers:
            await containers.start(harness.spec("job", "sh", "-c", "echo one; echo two; echo three >&2"))
            await end(containers, "job")
            assert await output(containers, "job", {"stdout": 4}) == {"stdout": b"two\n", "stderr": b"three\n"}
            everything = {"stdout": 8, "stderr": 6}
            assert await output(containers, "job", everything) == {"stdout": b"", "stderr": b""}

    asyncio.run(main())


def test_the_job_works_in_its_workspace_and_what_it_wrote_stays(harness: Harness) -> None:
    (harness.workspace("job") / "input").write_text("given")

    async def main() -> None:
        async with harness.open() as containers:
            _, ended = await ran(harness, containers, "sh", "-c", "cat input > made; mkdir deep; echo x > deep/file")
        assert ended.code == 0

    asyncio.run(main())
    assert (harness.workspace("job") / "made").read_text() == "given"
    assert (harness.workspace("job") / "deep" / "file").read_text() == "x\n"


def test_the_environment_is_the_specs_and_nothing_of_the_runners(harness: Harness) -> None:
    """The runner's own environment may hold secrets."""
    env = {"RUNNER_JOB_ID": "digits-1", "GREETING": "two words, 'quoted' $HOME\nand a line", "odd.name": "kept"}

    async def main() -> None:
        async with harness.open() as containers:
            spec = harness.spec("job", "python3", "-c", "import os; print(dict(os.environ))", env=env, deadline_at=12.5)
            await containers.start(spec)
            written = (await output(containers, "job"))["stdout"].decode()
        for name, value in env.items():
            assert f"{name!r}: {value!r}" in written
        for name in ("PATH", "HOME", "TMPDIR", "RUNNER_DEADLINE_FILE"):
            assert f"{name!r}: " in written
        assert "PYTEST_CURRENT_TEST" in os.environ
        assert "PYTEST" not in written

    asyncio.run(main())


@pytest.mark.parametrize(("deadline_at", "text"), [(1893456000.25, b"1893456000.250\n"), (None, b"")])
def test_the_deadline_stands_in_its_file(harness: Harness, deadline_at: float | None, text: bytes) -> None:
    async def main() -> None:
        async with harness.open() as containers:
            command = ("sh", "-c", 'cat "$RUNNER_DEADLINE_FILE"')
            await containers.start(harness.spec("job", *command, deadline_at=deadline_at))
            assert await output(containers, "job") == {"stdout": text, "stderr": b""}

    asyncio.run(main())


def test_home_and_temporary_directory_can_be_written_and_stdin_is_empty(harness: Harness) -> None:
    async def main() -> None:
        async with harness.open() as containers:
            script = 'echo x > "$HOME/.cache-file" && echo x > "$TMPDIR/file" && cat && echo done'
            written, ended = await ran(harness, containers, "sh", "-c", script)
        assert (written, ended.code) == ({"stdout": b"done\n", "stderr": b""}, 0)

    asyncio.run(main())


def test_nothing_but_three_streams_is_open_in_a_job(harness: Harness) -> None:
    """An inherited descriptor would be a way into the runner's files."""
    program = "import os; print(sorted(int(fd) for fd in os.listdir('/proc/self/fd'))[:-1])"

    async def main() -> None:
        async with harness.open() as containers:
            written, _ = await ran(harness, containers, "python3", "-c", program)
        assert written["stdout"] == b"[0, 1, 2]\n"

    asyncio.run(main())


@pytest.mark.parametrize("command", [("train-nothing",), ("./train.py",), ("/nowhere/train",)])
def test_a_command_that_is_not_there_is_bad_input_that_names_it(harness: Harness, command: tuple[str, ...]) -> None:
    async def main() -> None:
        async with harness.open() as containers:
            with pytest.raises(BadInput, match=command[0].removeprefix("./")):
                await containers.start(harness.spec("job", *command))
            assert await containers.adopt("job") is None
            await containers.remove("job")

    asyncio.run(main())


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


def test_what_it_used_is_counted(harness: Harness) -> None:
    program = "x = bytearray(50 << 20); sum(i * i for i in range(1_000_000)); print('ready', flush=True); input()"

    async def main() -> None:
        async with harness.open() as containers:
            _, ended = await ran(harness, containers, "python3", "-c", program)
        assert ended.usage.memory_peak is not None
        assert 50 << 20 <= ended.usage.memory_peak <= 256 << 20
        assert ended.usage.cpu_seconds is not None
        assert 0.01 < ended.usage.cpu_seconds < LIMIT_S

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
