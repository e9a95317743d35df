"""A runner as a user starts one, in a process of its own, known to be ready by what it says."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cli.typed import LIMIT_S, Typed, clean_environ, started


@dataclass
class RunningRunner:
    """One runner on one state directory."""

    process: subprocess.Popen[str]
    state: Path

    def type(self, *words: object, stdin: str = "") -> Typed:
        """Type a command for this runner's box."""
        return started(*words, environ={"RUNNER_STATE_DIR": str(self.state)}, stdin=stdin)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode


@contextmanager
def running(state: Path, *options: object, environ: Mapping[str, str] | None = None) -> Iterator[RunningRunner]:
    """Start a runner and wait until it serves; killed at the end if it still runs."""
    command = [sys.executable, "-m", "runner", "run", "--state-dir", str(state), "--gpus", "simulated:2"]
    command += ["--gpu-locks", str(state / "gpu-locks"), *map(str, options)]
    variables = {**clean_environ(), **(environ or {})}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=variables) as process:
        try:
            _wait_until_ready(process)
            yield RunningRunner(process, state)
        finally:
            process.kill()


def _wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("{") and json.loads(line).get("action") == "ready":
            return
    raise AssertionError("the runner ended before it served:\n" + "".join(said))
