"""A runner as systemd starts it: what it says on a real socket, from its start to its end."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.at_work import until
from tests.cli.runners import running

pytestmark = pytest.mark.integration


@pytest.fixture
def manager() -> Iterator[socket.socket]:
    """Return what a service manager reads, under an abstract name as systemd has them."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as end:
        end.bind(f"\0runner-test-manager-{os.getpid()}")
        end.settimeout(20)
        yield end


def read(manager: socket.socket) -> dict[str, str]:
    return dict(line.split("=", 1) for line in manager.recv(4096).decode().splitlines())


def heard_of(manager: socket.socket) -> int:
    """Read until nothing comes any more, and count."""
    heard = 0
    with suppress(TimeoutError):
        while read(manager):
            heard += 1
    return heard


def variables(manager: socket.socket) -> dict[str, str]:
    name = manager.getsockname()[1:].decode()
    return {"NOTIFY_SOCKET": f"@{name}", "WATCHDOG_USEC": "1500000"}


@pytest.mark.parametrize(("on_stop", "status", "least_s", "most_s"), [
    ("drain", "draining: what runs is waited for", 420, 480), ("leave", "leaving: what runs goes on", 20, 60)
])  # fmt: skip
def test_what_a_service_manager_hears(
    tmp_path: Path, manager: socket.socket, on_stop: str, status: str, least_s: int, most_s: int
) -> None:
    """That it serves, once commands find it; that it lives, again and again; how long it may take to end."""
    options = ("--on-stop", on_stop, "--drain-grace", "5m")
    with running(tmp_path, *options, environ=variables(manager)) as box:
        assert read(manager) == {"READY": "1", "STATUS": "serving"}
        assert (tmp_path / "control.sock").exists()
        begun = time.monotonic()
        for _ in range(4):
            assert read(manager) == {"WATCHDOG": "1"}
        assert 1 < time.monotonic() - begun < 10
        assert box.type("submit", "--id", "long", "--", "sleep", "600").status == 0
        until(lambda: '"running"' in box.type("ps", "--json").out, "it runs")
        box.process.send_signal(signal.SIGTERM)
        while "STOPPING" not in (told := read(manager)):
            pass
        assert told["STATUS"] == status
        assert least_s <= int(told["EXTEND_TIMEOUT_USEC"]) / 1e6 <= most_s
        if on_stop == "drain":
            assert read(manager) == {"WATCHDOG": "1"}, "a drain is watched over, too"
            assert box.type("cancel", "long").status == 0
        box.process.communicate(timeout=30)
        assert box.process.returncode == 0
    if on_stop == "leave":
        with running(tmp_path, environ=variables(manager)) as box:
            while "READY" not in read(manager):
                pass
            assert '"running"' in box.type("ps", "--json").out
            assert box.type("cancel", "long").status == 0
            assert box.stop() == 0


def test_a_runner_that_stands_still_gives_no_sign_of_life_and_says_where_it_stood(
    tmp_path: Path, manager: socket.socket
) -> None:
    """What systemd sends then is no silent end: the log has the line of the program."""
    with running(tmp_path, environ=variables(manager)) as box:
        box.process.send_signal(signal.SIGSTOP)
        manager.settimeout(3)
        assert heard_of(manager) < 100
        for number in (signal.SIGABRT, signal.SIGCONT):
            box.process.send_signal(number)
        _, said = box.process.communicate(timeout=30)
        assert box.process.returncode == -signal.SIGABRT
        assert "Fatal Python error: Aborted" in said
