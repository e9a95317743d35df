"""Processes of a measurement: started, watched by the kernel's account of them, ended within bounds."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from bench.log_check import Heard, Order
from bench.log_subscriber import READY

ROOT = Path(__file__).parents[1]
LOOK_AGAIN_S = 0.05
STOP_S = 20.0


class BenchError(Exception):
    """What was measured did not do what it was given in time; the text says what that was."""


def environment() -> dict[str, str]:
    """Return our environment without what configures a runner."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RUNNER_")}
    return clean | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


@contextmanager
def module(name: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run the ``main`` of one of our modules in a process of its own; killed at the end where it still runs."""
    command = [sys.executable, "-c", f"import bench.{name} as it; it.main()", *words]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()


def line_of(process: subprocess.Popen[str], limit_s: float, what: str) -> str:
    """
    Return the next line that a process says.

    Raises:
        BenchError: it said none in time.
    """
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], limit_s)
    line = process.stdout.readline() if ready else ""
    if not line:
        raise BenchError(f"{what} said nothing in {limit_s:g} s")
    return line.strip()


class Listening:
    """A subscriber at work."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def has_ended(self) -> bool:
        """Tell whether it heard the last line."""
        assert self.process.stdout is not None
        return bool(select.select([self.process.stdout], [], [], 0)[0])

    def heard(self) -> Heard:
        """Return what it heard until now, and end it."""
        if not self.has_ended():
            self.process.terminate()
        return msgspec.json.decode(line_of(self.process, STOP_S, "the subscriber"), type=Heard)


@contextmanager
def listening(order: Order) -> Iterator[Listening]:
    """Start a subscriber, and wait until it listens."""
    with module("log_subscriber", msgspec.json.encode(order).decode()) as process:
        assert line_of(process, STOP_S, "the subscriber") == READY
        yield Listening(process)


def await_(condition: Callable[[], bool], limit_s: float, what: str) -> None:
    """
    Look again and again.

    Raises:
        BenchError: it was not so in time.
    """
    ends = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > ends:
            raise BenchError(f"not within {limit_s:g} s: {what}")
        time.sleep(LOOK_AGAIN_S)


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has used, that of its children aside."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int, name: str = "VmRSS") -> float:
    """Return the resident memory of a process: ``VmRSS`` now, ``VmHWM`` at its most."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found.group(1)) / 1024
