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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KILL_WITHIN_S = 0.04
_STARTED, _GONE = b"started", b"gone"


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
            os.close(reading)
            os.write(writing, _STARTED)
            write(directory)
            os._exit(1)
        os.read(reading, len(_STARTED))
        os.close(writing)
        # End of file would mean that the writer ended by itself; the time limit is the random instant.
        select.select([reading], [], [], random.Random(int(seed)).uniform(0.0, KILL_WITHIN_S))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reading)
        acknowledge(_GONE.decode())


if __name__ == "__main__":
    _serve(sys.argv[1])
