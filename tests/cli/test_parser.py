"""Mistakes on the command line: one line that says what, where and what to do, and 64."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.typed import LIMIT_S, Typed, clean_environ, started, typed

DURATION = 'is no duration: write "90s", "30m" or "1h30m"'


@pytest.mark.parametrize(
    ("words", "command", "problem"),
    [
        (("logs",), "logs", "JOB is missing"),
        (("schema",), "schema", "document is missing: write job or receipt or config"),
        (("config",), "config", "action is missing: write explain"),
        (("logs", "a", "b"), "logs", "'b' is one word too many"),
        (("ps", "--jsn"), "ps", "no such option --jsn; did you mean --json?"),
        (("ps", "--al"), "ps", "no such option --al; did you mean --all?"),
        (
            ("--max-mem", "2 tons"),
            "run",
            '--max-mem: \'2 tons\' is no size: write "512MiB", "4GiB" or a number of bytes',
        ),
        (("run", "--drain-grace", "1 hour"), "run", f"--drain-grace: '1 hour' {DURATION}"),
        (("run", "--on-stop", "dran"), "run", "--on-stop: 'dran' will not do: write 'drain' or 'leave'"),
        (("run", "--max-jobs", "-1"), "run", "--max-jobs: '-1' will not do: write a whole number from 0 up"),
        (("run", "--config"), "run", "--config: expected one argument"),
        (("schema", "jobs"), "schema", "document: 'jobs' is none of job, receipt, config; did you mean job?"),
        (("submit",), "submit", "a job is missing; name a job file, or give a command after --"),
        (("submit", "python3", "x.py"), "submit", "'x.py' is one word too many; a command goes behind --"),
        (("submit", "--gpus", "two", "--", "true"), "submit", "--gpus: 'two' is no number: write 1 or 0.5"),
        (("submit", "--timeout", "1 hour", "--", "true"), "submit", f"--timeout: '1 hour' {DURATION}"),
        (("submit", "--env", "A", "--", "true"), "submit", "--env: 'A' is no NAME=VALUE"),
        (("drain", "--grace", "soon"), "drain", f"--grace: 'soon' {DURATION}"),
        (("run", "--max-waiting", "0"), "run", "--max-waiting: '0' will not do: write a whole number from 1 up"),
        (("run", "--mailbox", "0"), "run", "--mailbox: '0' will not do: write a whole number from 1 up"),
        (("run", "--port-timeout", "0s"), "run", "--port-timeout: too short: write at least '1s'"),
        (("run", "--lease", "999ms"), "run", "--lease: too short: write at least '1s'"),
        (("cancel", ""), "cancel", "JOB: '' names no job; list them with: runner ps --all"),
        (("logs", "\udcff"), "logs", "JOB: '\\udcff' names no job; list them with: runner ps --all"),
    ],
)
def test_a_mistake_is_one_line_and_64(words: tuple[str, ...], command: str, problem: str) -> None:
    """Whoever mistypes sees what to type instead, and a script a status of its own."""
    assert Typed(64, "", f"runner {command}: {problem}; see: runner {command} --help\n") == typed(*words)


def test_an_unknown_command_names_the_nearest() -> None:
    """The first word is the commonest place to mistype."""
    line = "runner: no such command 'sumbit'; did you mean submit?; see: runner --help\n"
    assert Typed(64, "", line) == typed("sumbit")


def test_help_lists_every_command_on_one_screen() -> None:
    """A newcomer finds everything without scrolling."""
    said = typed("--help")
    assert said.status == 0
    assert len(said.out.splitlines()) <= 40
    for name in (
        "run",
        "submit",
        "logs",
        "ps",
        "show",
        "why",
        "cancel",
        "gpus",
        "sources",
        "drain",
        "doctor",
        "version",
    ):
        assert f"\n  {name} " in said.out


@pytest.mark.parametrize("words", [("help", "ps"), ("ps", "--help"), ("ps", "-h")])
def test_help_of_a_command(words: tuple[str, ...]) -> None:
    """All ways to ask for it give it."""
    assert typed(*words).out.startswith("usage: runner ps ")


@pytest.mark.parametrize("name", ["cache", "upload", "keys"])
def test_commands_of_later_versions_are_absent(name: str) -> None:
    """A command that cannot work yet is not offered."""
    assert typed(name).status == 64


def test_version() -> None:
    """It says which version, and on which Python."""
    assert typed("version").out.startswith("runner 0.1.0 (Python 3.")
    assert typed("--version").out == typed("version").out
    assert typed("version", "--json").out.startswith('{"version":"0.1.0","python":"3.')


@pytest.mark.parametrize("words", [("version",), ("--help",)])
def test_what_is_asked_first_loads_nothing_large(words: tuple[str, ...]) -> None:
    """The first impression is speed: neither the structs nor a loop nor an SDK is loaded to print a page."""
    program = (
        "import sys; from runner.cli.program import run_command; run_command(sys.argv[1:]);"
        "print(sorted({'msgspec', 'asyncio', 'aiohttp', 'rich', 'uvloop', 'adapters'} & set(sys.modules)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=True, timeout=60
    )
    assert said.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_and_options(shell: str) -> None:
    """A shell completes what help lists."""
    script = typed("completion", shell).out
    assert "submit" in script
    assert "cancel-on-interrupt" in script


@pytest.mark.parametrize(
    "words", [["--help"], ["run", "--help"], ["schema", "job"], ["ps", "--all"], ["version", "--json"]]
)
def test_a_reader_that_had_enough_is_no_error(tmp_path: Path, words: list[str]) -> None:
    """``runner ps | head -1`` prints one line and no complaint; here nobody reads even that."""
    gone, out = os.pipe()
    os.close(gone)
    environ = {**clean_environ(), "RUNNER_STATE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "runner", *words]
    said = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, check=False, timeout=LIMIT_S, env=environ)
    os.close(out)
    assert (0, b"") == (said.returncode, said.stderr)


@pytest.mark.integration
@pytest.mark.parametrize(
    "words", [["--help"], ["config", "explain"], ["schema", "job"], ["ps", "--all"], ["version", "--json"]]
)
def test_a_full_disk_behind_standard_output_is_one_line(tmp_path: Path, words: list[str]) -> None:
    """A script that keeps what a command printed learns that it has not all of it."""
    environ = {**clean_environ(), "RUNNER_STATE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "runner", *words]
    with Path("/dev/full").open("w") as full:
        said = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False, timeout=LIMIT_S, env=environ)
    assert (1, b"runner: cannot write to standard output: No space left on device\n") == (said.returncode, said.stderr)


@pytest.mark.integration
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("words", ["--help", "ps", "version --json"])
def test_closed_streams_are_no_fault(tmp_path: Path, words: str, closed: str) -> None:
    """Some init systems start programs so."""
    environ = {**clean_environ(), "RUNNER_STATE_DIR": str(tmp_path)}
    line = f"{sys.executable} -m runner {words} {closed}"
    said = subprocess.run(["sh", "-c", line], capture_output=True, check=False, timeout=LIMIT_S, env=environ)
    assert (0, b"") == (said.returncode, said.stderr)


def test_the_unexpected_is_one_line_until_the_details_are_asked_for() -> None:
    """A traceback helps nobody who did not ask for it."""
    said = started("config", "explain", environ={"RUNNER_CONFIG": "/nonexistent.toml"})
    assert said.status == 78
    assert len(said.err.splitlines()) == 1
    assert "Traceback" in started("config", "explain", "--debug", environ={"RUNNER_CONFIG": "/nonexistent.toml"}).err
