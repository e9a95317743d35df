"""Commands that ask the running runner over its socket."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from adapters.http.client import ControlClient
from runner.errors import Refused
from runner.receipt import GpuTable, SourceRow
from tests.adapters.http.control_box import GPUS, KEY, SOURCES, Box, FakeControl, box
from tests.cli.typed import Typed, typed


def asked(state: Path, *words: object, before: Callable[[Box], object] = bool) -> tuple[Typed, FakeControl]:
    """Type a command while a runner answers on ``state``."""

    async def main() -> tuple[Typed, FakeControl]:
        async with box(state) as it:
            before(it)
            said = await asyncio.to_thread(typed, *words, "--state-dir", state)
            return said, it.control

    return asyncio.run(main())


def test_gpus_and_sources_in_both_forms(tmp_path: Path) -> None:
    """Shapes are a contract; tables are for people."""
    said, _ = asked(tmp_path, "gpus", "--json")
    assert msgspec.json.decode(said.out, type=GpuTable) == GPUS
    said, _ = asked(tmp_path, "gpus")
    assert ["0", "H200", "128", "GiB", "-", "healthy", "digits-1", "GPU-a"] == said.out.splitlines()[1].split()
    said, _ = asked(tmp_path, "sources", "--json")
    assert msgspec.json.decode(said.out, type=tuple[SourceRow, ...]) == SOURCES
    said, _ = asked(tmp_path, "sources")
    rows = [line.split(maxsplit=5 if "in use" not in line else 6) for line in said.out.splitlines()[1:]]
    assert rows == [
        ["local.toml", "folder", "ok", "train", "3", "polling"],
        ["loose.toml", "rabbitmq", "in", "use", "q", "-", "polling; it may run twice; chmod 600 it"],
        ["none.toml", "redis", "refused", "-", "-", "wrong password"],
        ["text.toml", "-", "unusable", "-", "-", "is no text: write it as UTF-8"],
        ["idle.toml", "sqs", "in", "use", "-", "-", "no queue behind it that is wanted"],
    ]


def test_cancel_says_which_of_the_ways_it_took(tmp_path: Path) -> None:
    """The runner's own sentence."""
    said, control = asked(tmp_path, "cancel", "digits-1")
    assert (Typed(0, "digits-1 is being stopped\n", ""), ["digits-1"]) == (said, control.cancelled)
    said, _ = asked(tmp_path, "cancel", "digits-1", "--json")
    assert {"sentence": "digits-1 is being stopped"} == json.loads(said.out)


def test_a_job_that_the_runner_does_not_know_is_1(tmp_path: Path) -> None:
    """What is unknown to the runner is unknown to the command."""

    def refuse(it: Box) -> None:
        it.control.failure = Refused("no job 'nosuch' is known here")

    said, _ = asked(tmp_path, "cancel", "nosuch", before=refuse)
    assert Typed(1, "", "runner: no job 'nosuch' is known here\n") == said


@pytest.mark.parametrize(
    ("words", "stop", "sentence"),
    [
        ((), (False, None), "draining: no job is fetched any more; what runs has the configured grace\n"),
        (("--grace", "90"), (False, 90.0), "draining: no job is fetched any more; what runs has 90.0 s\n"),
        (("--grace", "1h"), (False, 3600.0), "draining: no job is fetched any more; what runs has 1 h 0 min\n"),
        (("--leave",), (True, None), "leaving: jobs run on, and the next start takes them back\n"),
    ],
)
def test_drain(tmp_path: Path, words: tuple[str, ...], stop: tuple[bool, float | None], sentence: str) -> None:
    """Both kinds of stop, with the grace in seconds."""
    said, control = asked(tmp_path, "drain", *words)
    assert (Typed(0, sentence, ""), [stop]) == (said, control.stops)


@pytest.mark.parametrize("command", ["sources", "drain"])
def test_without_a_runner_it_says_how_to_start_one(tmp_path: Path, command: str) -> None:
    """69: what is needed is not there."""
    line = f"runner: no runner is running on {tmp_path}; start one with: runner run --state-dir {tmp_path} &\n"
    assert Typed(69, "", line) == typed(command, "--state-dir", tmp_path)


def test_gpus_looks_for_itself_without_a_runner(tmp_path: Path) -> None:
    """Whoever sets a box up has no runner yet."""
    assert "gpus" in json.loads(typed("gpus", "--json", "--state-dir", tmp_path).out)


def test_logs_follow_a_running_job_over_the_socket(tmp_path: Path) -> None:
    """To its end, from its beginning; the runner's own lines on stderr."""

    async def main() -> Typed:
        async with box(tmp_path) as it:
            await it.claim()
            await it.spool.append(KEY, 1, "stdout", b"1\n")
            await it.spool.append(KEY, 1, "runner", b"pulled\n")
            reading = asyncio.create_task(asyncio.to_thread(typed, "logs", "-f", "digits-1", "--state-dir", tmp_path))
            await it.spool.append(KEY, 1, "stdout", b"2\n")
            await it.end()
            await it.spool.seal(KEY, 1)
            return await asyncio.wait_for(reading, 30)

    assert Typed(0, "1\n2\n", "runner: pulled\n") == asyncio.run(main())


def test_doctor_names_the_runner_that_answers(tmp_path: Path) -> None:
    """One line each; a box that works has no failing one."""
    said, _ = asked(tmp_path, "doctor", "--json")
    checks = {row["check"]: row for row in json.loads(said.out)}
    assert checks["runner"]["state"] == "ok"
    assert all(row["state"] in {"ok", "warn", "fail"} for row in checks.values())
    assert all(row["fix"] for row in checks.values() if row["state"] == "fail")
    wanted = {
        "python",
        "state directory",
        "disk",
        "clock",
        "cgroups",
        "isolation",
        "docker",
        "gpus",
        "own queue",
        "certs",
    }
    assert wanted <= set(checks)


def test_doctor_fails_where_something_must_be_mended(tmp_path: Path) -> None:
    """A script can go by the status."""
    said = typed("doctor", "--state-dir", tmp_path, "--certs-dir", tmp_path / "nosuch")
    assert said.status == 1
    assert f"fail   certs            {tmp_path}/nosuch cannot be read; to mend it: " in said.out


def test_doctor_looks_behind_each_credential_file(tmp_path: Path) -> None:
    """Readable, its queues reachable, its stores there: each a line, and nothing is made by looking."""
    certs, queue = tmp_path / "certs", tmp_path / "q"
    certs.mkdir(mode=0o700)
    (tmp_path / "file").write_text("")
    files = {
        "good.toml": f'kind = "folder"\nurl = "folder://{queue}"\npaths = ["{tmp_path}"]\n',
        "gone.toml": f'kind = "folder"\nurl = "folder://{queue}"\npaths = ["{tmp_path}/nosuch"]\n',
        "odd.toml": 'kind = "foldr"\n',
        "stuck.toml": f'kind = "folder"\nurl = "folder://{tmp_path}/file/q"\n',
    }
    for name, text in files.items():
        (certs / name).write_text(text)
        (certs / name).chmod(0o600)
    said = typed("doctor", "--json", "--state-dir", tmp_path / "s", "--certs-dir", certs)
    states = {row["check"]: row["state"] for row in json.loads(said.out) if row["check"].startswith("certs/")}
    assert {
        "certs/good.toml": "ok",
        "certs/good.toml queues": "ok",
        "certs/good.toml store": "ok",
        "certs/gone.toml": "ok",
        "certs/gone.toml queues": "ok",
        "certs/gone.toml store": "fail",
        "certs/odd.toml": "fail",
        "certs/stuck.toml": "ok",
        "certs/stuck.toml queues": "fail",
    } == states
    assert not queue.exists()


def test_the_client_refuses_a_socket_of_something_else(tmp_path: Path) -> None:
    """A file that is no socket is no runner."""
    (tmp_path / "control.sock").write_text("")
    with pytest.raises(Exception, match="no runner is running"):
        ControlClient(tmp_path / "control.sock").health()


def test_the_doctor_says_what_is_wrong_with_a_credential_file_once(tmp_path: Path) -> None:
    """What is found, and what to type, each in its place."""
    (tmp_path / "certs").mkdir(mode=0o755)
    for name, text in (("loose.toml", f'kind = "folder"\nurl = "folder://{tmp_path}/q"\n'), ("text.toml", "")):
        (tmp_path / "certs" / name).write_text(text)
        (tmp_path / "certs" / name).chmod(0o644)
    said = typed("doctor", "--json", "--state-dir", tmp_path / "s", "--certs-dir", tmp_path / "certs")
    checks = {check["check"]: (check["found"], check["fix"]) for check in json.loads(said.out)}
    loose = ("is open to other users (mode 0644)", f"chmod 600 {tmp_path}/certs/loose.toml")
    broken = ('is empty: write kind = "folder" and a url', f"mend {tmp_path}/certs/text.toml")
    assert (loose, broken) == (checks["certs/loose.toml"], checks["certs/text.toml"])
