"""
The runner as a process of its own: started, killed and stopped by its pid, heard through its log.

It gets a session of its own, so that Ctrl-C reaches the demo alone, which then ends it in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import runner
from runner.cli.demo.stage import Stage
from runner.cli.paths import control_socket
from runner.config import BARE_NAMES
from runner.errors import RunnerError

READY_WITHIN_S = 60.0
STOPPED_WITHIN_S = 15.0
PAUSE_S = 0.02


class DemoFailed(RunnerError):
    """The demo cannot go on."""


class Service:
    """One life of the runner after the other, on one state directory and with one log."""

    def __init__(self, stage: Stage, options: tuple[str, ...]) -> None:
        self._stage = stage
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        # Where in the log this life begins.
        self._log_from = 0
        self.started_at = 0.0

    @property
    def pid(self) -> int:
        """The process id of the life that runs."""
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        """Start a life and wait until it serves."""
        self._log_from = self._stage.log.stat().st_size if self._stage.log.exists() else 0
        self._process = self._started()
        await self.heard("ready")

    def _started(self) -> subprocess.Popen[bytes]:
        with self._stage.log.open("ab") as log:
            self.started_at = time.time()
            return subprocess.Popen(  # noqa: S603 - this very program
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # With `-m` Python looks where it is started first: a folder there could be called `runner`, too.
                cwd=Path(runner.__file__).parents[1],
                env=clean_environ(),
                start_new_session=True,
            )

    def _command(self) -> list[str]:
        stage = self._stage
        options = {"--state-dir": stage.state, "--certs-dir": stage.certs, "--docker-host": "", "--drain-grace": "0s"}
        told = [f"{name}={value}" for name, value in options.items()]
        return [sys.executable, "-m", "runner", "run", *told, "--no-own-queue", *self._options]

    async def heard(self, action: str) -> dict[str, object]:
        """
        Wait for a line of the log and return it.

        Raises:
            DemoFailed: the runner ended, or did not say it in time.
        """
        ends = time.monotonic() + READY_WITHIN_S
        while True:
            self.check_alive()
            for record in self._records():
                if record.get("action") == action:
                    return record
            if time.monotonic() > ends:
                raise DemoFailed(f"the runner (process {self.pid}) did not say {action!r} in {READY_WITHIN_S:g} s")
            await asyncio.sleep(PAUSE_S)

    def check_alive(self) -> None:
        """
        Look whether the runner still runs.

        Raises:
            DemoFailed: it ended, which nobody asked it to.
        """
        status = self._process.poll() if self._process else None
        if status is not None:
            raise DemoFailed(f"the runner ended by itself ({_ended(status)}): {self._last_words()}")

    def kill(self) -> None:
        """Kill it as nothing can be prepared for, and wait until the kernel is done with it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def stop(self) -> int | None:
        """Let it drain and return its exit status; None where it had to be killed, or never ran."""
        process, self._process = self._process, None
        if process is None:
            return None
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.to_thread(process.wait, STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)
            return None

    def socket(self) -> Path:
        """Return where it answers."""
        return control_socket(self._stage.state)

    def _records(self) -> Iterator[dict[str, object]]:
        with self._stage.log.open("rb") as log:
            log.seek(self._log_from)
            for line in log:
                with contextlib.suppress(ValueError):
                    record = json.loads(line)
                    if isinstance(record, dict):
                        yield record

    def _last_words(self) -> str:
        lines = self._stage.log.read_text("utf-8", "replace").splitlines()
        return lines[-1] if lines else "it said nothing"


def _ended(status: int) -> str:
    return f"exit {status}" if status >= 0 else f"signal {-status}"


def clean_environ() -> dict[str, str]:
    """Return this process's environment without what would configure the runner."""
    foreign = {name.upper() for name in BARE_NAMES}
    return {name: value for name, value in os.environ.items() if name not in foreign and not name.startswith("RUNNER_")}
