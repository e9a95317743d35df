"""One daemon as a child: started with its output in a file, awaited until ready, stopped within bounds."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.services.service import ServiceError

LOG_LINES_SHOWN = 5
POLL_INTERVAL_S = 0.02


@dataclass(frozen=True, kw_only=True)
class Daemon:
    """A command that stays in the foreground; `ready` answers at once whether it can be used."""

    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    ready: Callable[[], bool]
    start_timeout_s: float = 30.0
    stop_timeout_s: float = 15.0
    stop_signal: signal.Signals = signal.SIGTERM


@contextmanager
def running(daemon: Daemon) -> Iterator[int]:
    """Start the daemon, yield its pid once it is ready, and stop it: by its signal, by SIGKILL after the timeout."""
    with (
        daemon.log.open("wb") as log,
        subprocess.Popen(
            [*_dies_with_us(), *daemon.command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(daemon.environment),
            start_new_session=True,
        ) as process,
    ):
        try:
            _await_ready(daemon, process)
            yield process.pid
        finally:
            _stop(process, daemon)


def _dies_with_us() -> list[str]:
    """Make the kernel stop the daemon if this process is killed, so that nothing outlives an aborted run."""
    return ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") and os.geteuid() == 0 else []


def _await_ready(daemon: Daemon, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + daemon.start_timeout_s
    while not daemon.ready():
        if process.poll() is not None:
            raise ServiceError(
                f"{daemon.command[0]} ended with {process.returncode} at start: {_last_lines(daemon.log)}"
            )
        if time.monotonic() > deadline:
            raise ServiceError(
                f"{daemon.command[0]} not ready in {daemon.start_timeout_s:.0f} s: {_last_lines(daemon.log)}"
            )
        time.sleep(POLL_INTERVAL_S)


def _last_lines(log: Path) -> str:
    return " | ".join(log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:])


def _stop(process: subprocess.Popen[bytes], daemon: Daemon) -> None:
    if process.poll() is not None:
        return
    process.send_signal(daemon.stop_signal)
    try:
        process.wait(daemon.stop_timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(daemon.stop_timeout_s)
