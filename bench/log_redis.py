"""A Redis of our own, which is frozen, killed and started again; it writes what it takes to its disk first."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.log_children import STOP_S, await_
from tests.services.ports import free_port
from tests.services.redis import answers, redis_command

START_S = 20.0
LASTING = ("--appendonly", "yes", "--appendfsync", "no")
"""It survives the end of the process, as a service does; a power cut is nothing that happens here."""


class OwnRedis:
    """One server on one port."""

    def __init__(self, directory: Path, port: int) -> None:
        self.port = port
        self._command = [*redis_command(directory, port), *LASTING]
        self._log = directory / "redis.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it unless it runs, and wait until it answers."""
        if self._process is not None and self._process.poll() is None:
            return
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=dict(os.environ))
        await_(lambda: answers(self.port), START_S, f"Redis answers on port {self.port}")

    def kill(self) -> None:
        """End it without asking."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_S)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)


@contextmanager
def own_redis(directory: Path) -> Iterator[OwnRedis]:
    """Start one that keeps its data below a directory; killed at the end."""
    (directory / "redis").mkdir()
    it = OwnRedis(directory / "redis", free_port())
    it.start()
    try:
        yield it
    finally:
        it.kill()
