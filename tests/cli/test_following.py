"""``runner logs -f`` beside a real runner: through its restart, with the last lines first, and over HTTP meanwhile."""

import http.client
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.cli.runners import running
from tests.cli.typed import LIMIT_S, clean_environ, started

pytestmark = pytest.mark.integration
COUNT = 60
SCRIPT = f"""
import time
for step in range({COUNT}):
    print("step", step, flush=True)
    time.sleep(0.05)
"""


@contextmanager
def following(state: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Follow a job of this box."""
    command = [sys.executable, "-m", "runner", "logs", "-f", "--state-dir", str(state), *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env=clean_environ(), **pipes) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.kill()


def read_lines(process: subprocess.Popen[str], count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline() for _ in range(count)]


def rest(process: subprocess.Popen[str]) -> str:
    """Read to the end, with what came together with lines that were read before."""
    assert process.stdout is not None
    text = process.stdout.read()
    process.wait(LIMIT_S)
    return text


def asked(port: int, headers: Mapping[str, str]) -> tuple[int, bytes]:
    """Read the log of job x."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    with closing(connection):
        connection.request("GET", "/jobs/x/log", headers=dict(headers))
        response = connection.getresponse()
        return response.status, response.read()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def test_a_follower_outlives_the_runner_and_sees_each_line_once(tmp_path: Path) -> None:
    """The runner is killed while the job prints, and started again; who comes late may ask for the last line only."""
    steps = [f"step {number}\n" for number in range(COUNT)]
    with running(tmp_path) as first:
        assert first.type("submit", "--id", "x", "--", "python3", "-c", SCRIPT).status == 0
        with following(tmp_path, "x") as whole, following(tmp_path, "x", "--json") as records:
            assert steps[:2] == read_lines(whole, 2)
            first.process.send_signal(signal.SIGKILL)
            first.process.wait(LIMIT_S)
            assert whole.stderr is not None
            assert "is gone; waiting for the next one" in whole.stderr.readline()
            with following(tmp_path, "x", "--tail", "1") as last, running(tmp_path) as second:
                newest = steps.index(read_lines(last, 1)[0])
                assert 0 < newest < COUNT - 1
                assert "".join(steps[newest + 1 :]) == rest(last)
                assert ("".join(steps[2:]), 0) == (rest(whole), whole.returncode)
                told = [json.loads(line) for line in records.communicate(timeout=LIMIT_S)[0].splitlines()]
                assert second.stop() == 0
    assert "".join(steps) == "".join(one["text"] for one in told if one.get("stream") == "stdout")
    assert len(told) == len({json.dumps(one) for one in told})
    assert "succeeded" == told[-1]["event"]["end_reason"]


def test_listen_answers_who_has_the_token(tmp_path: Path) -> None:
    """What the README says to type."""
    port = free_port()
    with running(tmp_path, "--listen", f"localhost:{port}") as it:
        assert it.type("submit", "--follow", "--id", "x", "--", "echo", "hi").status == 0
        token = (tmp_path / "http-token").read_text().strip()
        assert 401 == asked(port, {})[0]
        status, body = asked(port, {"Authorization": f"Bearer {token}"})
        assert (200, True) == (status, b'"stream":"stdout","text":"hi\\n"}' in body)
        other = started("run", "--state-dir", tmp_path / "other", "--gpus", "none", "--listen", f"127.0.0.1:{port}")
        assert (69, True) == (other.status, f"listen at 127.0.0.1:{port}: Address already in use" in other.err)
        assert it.stop() == 0


@pytest.mark.parametrize("address", ["8080", "localhost", "1.2.3.4.5:80", "[::1:80", "127.0.0.1:70000", "evil:80"])
def test_an_address_that_will_not_do_is_a_mistake_in_the_configuration(tmp_path: Path, address: str) -> None:
    said = started("run", "--state-dir", tmp_path, environ={"RUNNER_LISTEN": address})
    assert (78, 1) == (said.status, len(said.err.splitlines()))
    assert f"listen: {address!r} is no address to listen at: " in said.err
