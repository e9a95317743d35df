"""What every container runtime does with a job that runs: its output, its end, its environment, its workspace."""

from __future__ import annotations

import asyncio
import os

import pytest

from runner.errors import BadInput
from tests.conformance.container_harness import Harness
from tests.conformance.container_steps import STUBBORN, attached, end, output, ran, until_it_says

pytestmark = pytest.mark.integration


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


def test_a_burst_before_the_exit_comes_whole_in_chunks_of_256_kib_at_most(harness: Harness) -> None:
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
        assert max(sizes) <= 256 << 10

    asyncio.run(main())


VARIED = """
import os, random
seeded = random.Random(5)
def line(size):
    return bytes(seeded.choices(range(256), k=min(size, 1000))).replace(b"\\n", b"\\0") * (size // 1000 or 1) + b"\\n"
texts = [line(size) for size in (0, 1, 4095, 16383, 16384, 16385, 65536, 1000000, 10000000)]
def write(number, text, pieces):
    sizes = [1] * len(text) if pieces else [len(text)]
    at = 0
    for size in sizes:
        while size:
            done = os.write(number, text[at : at + size])
            at, size = at + done, size - done
if __name__ == "__main__":
    for text in texts:
        write(1, text, False)
        write(2, text[::-1], False)
    write(1, b"bit by bit\\n" * 20, True)
    write(2, b"no end", True)
    os._exit(3)
"""


def test_lines_of_any_length_and_bytes_come_whole_and_each_stream_in_order(harness: Harness) -> None:
    """Lines of 0 bytes to 10 MB of any bytes, written to both streams in turns, some byte by byte, then the end."""
    names: dict[str, list[bytes]] = {}
    exec(VARIED, names)  # noqa: S102 - the job's own program tells what it writes
    texts = names["texts"]

    async def main() -> None:
        async with harness.open() as containers:
            written, ended = await ran(harness, containers, "python3", "-c", VARIED)
        assert ended.code == 3
        assert written["stdout"] == b"".join(texts) + b"bit by bit\n" * 20
        assert written["stderr"] == b"".join(text[::-1] for text in texts) + b"no end"

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


def test_an_end_that_comes_earlier_is_told_to_a_job_that_runs(harness: Harness) -> None:
    async def main() -> None:
        async with harness.open() as containers:
            wait = 'echo ready; until grep -q 1893456001.500 "$RUNNER_DEADLINE_FILE"; do sleep 0.01; done; echo told'
            await containers.start(harness.spec("job", "sh", "-c", wait, deadline_at=1893456900.25))
            await until_it_says(containers, "job", b"ready")
            await containers.tell_deadline("job", 1893456001.5)
            assert (await end(containers, "job")).code == 0
            await containers.remove("job")
            await containers.tell_deadline("job", 1893456002.5)
            assert await containers.list_ours() == ()

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
