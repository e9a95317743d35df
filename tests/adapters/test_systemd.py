"""The datagrams that systemd reads, on a real socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from adapters.systemd import Systemd


@pytest.fixture(params=["a file", "an abstract name"])
def listening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """Return the name that systemd would give, and what it reads."""
    file, name = str(tmp_path / "notify"), f"runner-test-{os.getpid()}"
    told, address = (file, file) if request.param == "a file" else (f"@{name}", f"\0{name}")
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as end:
        end.bind(address)
        end.settimeout(5)
        yield told, end


def test_facts_are_lines_of_one_datagram(listening: tuple[str, socket.socket]) -> None:
    told, end = listening
    with closing(Systemd({"NOTIFY_SOCKET": told})) as manager:
        manager.tell(ready=1, status="serving")
        manager.tell(watchdog=1)
    assert [end.recv(4096), end.recv(4096)] == [b"READY=1\nSTATUS=serving", b"WATCHDOG=1"]


def test_a_manager_that_does_not_read_holds_nobody_up(listening: tuple[str, socket.socket]) -> None:
    """A few hundred fit; whatever comes then is dropped at once, and the caller goes on."""
    told, end = listening
    with closing(Systemd({"NOTIFY_SOCKET": told})) as manager:
        for number in range(2000):
            manager.tell(status=number)
    end.settimeout(0)
    read = 0
    with suppress(BlockingIOError):
        while end.recv(4096):
            read += 1
    assert 0 < read < 2000


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1234", "/nowhere/notify"])
def test_where_nobody_listens_nothing_fails(address: str) -> None:
    with closing(Systemd({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"})) as manager:
        manager.tell(ready=1)
        assert manager.watchdog_s == (1.0 if address.startswith("/") else None)


@pytest.mark.parametrize(("variables", "waits_s"), [
    ({}, None),
    ({"WATCHDOG_USEC": "1500000"}, 1.5),
    ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
    ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}, None),
    ({"WATCHDOG_USEC": "0"}, None),
    ({"WATCHDOG_USEC": "soon"}, None),
])  # fmt: skip
def test_signs_of_life_are_for_the_process_that_is_asked(variables: dict[str, str], waits_s: float | None) -> None:
    """A child has the variables, too, and must not answer in the place of its parent."""
    assert Systemd({"NOTIFY_SOCKET": "/run/notify", **variables}).watchdog_s == waits_s
