"""A daemon that logs are sent to, in a directory of its own; it can be stopped and started again."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.services.daemon import Daemon, running
from tests.services.service import find_program

ARRIVED_S = 20.0
LOOK_AGAIN_S = 0.02


def needed(*programs: str) -> None:
    """Skip the test where a program is missing, or the rights to start it."""
    missing = [name for name in programs if find_program(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"{', '.join(missing)}: not installed" if missing else "needs root")


class LogDaemon:
    """Started by ``start``, which waits until ``ready``; ``remove`` goes before each start."""

    def __init__(self, command: Sequence[str], log: Path, ready: Callable[[], bool], remove: Path) -> None:
        self._daemon = Daemon(command=command, environment=dict(os.environ), log=log, ready=ready, stop_timeout_s=5.0)
        self._remove = remove
        self._running = ExitStack()

    def start(self) -> None:
        if self._remove.is_dir():
            shutil.rmtree(self._remove)
        self._remove.unlink(missing_ok=True)
        self._running.enter_context(running(self._daemon))

    def stop(self) -> None:
        self._running.close()


def await_true(condition: Callable[[], bool]) -> None:
    """Wait until what another process does is done."""
    until = time.monotonic() + ARRIVED_S
    while not condition():
        assert time.monotonic() < until, "it did not arrive"
        time.sleep(LOOK_AGAIN_S)
