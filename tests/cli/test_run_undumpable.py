"""The service as a user without rights: it closes itself to its user's other processes, and works all the same."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.adapters.unprivileged import NOBODY, SOMEBODY, owned_directory
from tests.cli.typed import LIMIT_S, clean_environ

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="becoming another user takes root"),
]


def as_somebody(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SOMEBODY, *words], capture_output=True, text=True, check=False, timeout=LIMIT_S, cwd=ROOT)


@contextmanager
def runner_of_somebody(state: Path) -> Iterator[subprocess.Popen[str]]:
    """Start one, wait until it serves, and end it in order."""
    command = [*SOMEBODY, sys.executable, "-m", "runner", "run", "--state-dir", str(state), "--gpus", "none"]
    environ = {**clean_environ(), "HOME": str(state)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environ, cwd=ROOT) as process:
        try:
            assert process.stderr is not None
            assert any('"ready"' in line for line in process.stderr)
            yield process
            process.terminate()
            process.communicate(timeout=LIMIT_S)
            assert process.returncode == 0
        finally:
            process.kill()


def test_no_process_of_its_user_reads_the_runners_environment() -> None:
    """A job without a user of its own is such a process; where credentials came by environment it would have them."""
    with owned_directory() as directory, runner_of_somebody(directory / "state") as process:
        peek = as_somebody("cat", f"/proc/{process.pid}/environ")
        assert ("", True) == (peek.stdout, "Permission denied" in peek.stderr)


def test_it_runs_jobs_all_the_same() -> None:
    with owned_directory() as directory, runner_of_somebody(directory / "state"):
        state = f"--state-dir={directory}/state"
        said = as_somebody(sys.executable, "-m", "runner", "submit", state, "--follow", "--id", "x", "--", "echo", "hi")
        assert (0, "hi\n") == (said.returncode, said.stdout), said.stderr
        shown = json.loads(as_somebody(sys.executable, "-m", "runner", "show", state, "x", "--json").stdout)
        assert ("process", str(NOBODY)) == (shown["isolation"]["runtime"], shown["isolation"]["user"])
