"""
Kills a writer at random instants, many times a second, and collects what it had acknowledged until then.

A writer is a module with ``write(directory)``, which works until it is killed and says each thing that it has done
through :func:`acknowledge`. It is imported once; each round is a fork of that process and takes milliseconds.
"""

from __future__ import annotations

import importlib
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KILL_WITHIN_S = 0.02
_GONE = b"gone"


def acknowledge(text: str) -> None:
    """Say that something is done for good; called by a writer."""
    os.write(1, text.encode() + b"\n")


class Writer:
    """The process that is forked for each round."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def round(self, directory: Path, seed: int) -> list[str]:
        """Let the writer work in a directory, kill it, and return what it had acknowledged."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{seed} {directory}\n".encode())
        self._process.stdin.flush()
        lines = iter(lambda: self._process.stdout.readline().strip(), _GONE)  # type: ignore[union-attr]
        return [line.decode() for line in lines]


@contextmanager
def writer(module: str) -> Iterator[Writer]:
    """Start the process that imports a writer's module."""
    command = [sys.executable, "-m", "tests.kill_rounds", module]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Writer(process)
        finally:
            process.kill()


def _serve(module: str) -> None:
    write = importlib.import_module(module).write
    for line in sys.stdin:
        seed, _, directory = line.strip().partition(" ")
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.dup2(writing, 1)
            write(directory)
            os._exit(1)
        os.close(writing)
        said = _listen(reading, int(seed))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        while more := os.read(reading, 1 << 16):
            said += more
        os.close(reading)
        os.write(1, said)
        acknowledge(_GONE.decode())


def _listen(reading: int, seed: int) -> bytes:
    """Collect what a writer says until a random instant soon after its birth, or mostly after its first word."""
    said = b"" if seed % 3 == 0 else os.read(reading, 1 << 16)
    until_s = time.monotonic() + random.Random(seed).uniform(0.0, KILL_WITHIN_S)
    while (left_s := until_s - time.monotonic()) > 0 and select.select([reading], [], [], left_s)[0]:
        more = os.read(reading, 1 << 16)
        if not more:
            break
        said += more
    return said


if __name__ == "__main__":
    _serve(sys.argv[1])
