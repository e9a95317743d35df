"""Brokers of one test's own, which it may kill, freeze and start again; what they keep stays from life to life."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from tests.at_work import until
from tests.services.ports import free_port
from tests.services.redis import answers, redis_command

START_S = 60.0


class PrivateBroker(Protocol):
    """One broker; ``port`` is the same in every life."""

    port: int

    def url(self, port: int) -> str:
        """Return its URL by way of a port."""
        ...

    def start(self) -> None:
        """Begin a life, and wait until it serves."""
        ...

    def kill(self) -> None:
        """End a life as a power cut does."""
        ...

    def freeze(self) -> None:
        """Let it stand still."""
        ...

    def thaw(self) -> None:
        """Let it go on."""
        ...


class PrivateRedis:
    """A Redis that has written what it has confirmed."""

    def __init__(self, directory: Path) -> None:
        self._directory, self.port = directory, free_port()
        directory.mkdir()
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, port: int) -> str:
        return f"redis://127.0.0.1:{port}"

    def start(self) -> None:
        command = [*redis_command(self._directory, self.port), "--appendonly", "yes", "--appendfsync", "always"]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until(lambda: answers(self.port), "Redis serves", START_S)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)


@contextmanager
def private_broker(name: str, directory: Path) -> Iterator[PrivateBroker]:
    """Start one of its own; it is gone at the end."""
    broker = PrivateRedis(directory / "broker")
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()
