"""A daemon that does not come up says why, and one that does is gone afterwards."""

import os
import sys
from pathlib import Path

import pytest

from tests.services.daemon import Daemon, running
from tests.services.service import ServiceError

WAIT_FOR_SIGNAL = "import pathlib, signal, sys; pathlib.Path(sys.argv[1]).touch(); signal.pause()"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + WAIT_FOR_SIGNAL


def daemon(directory: Path, script: str) -> Daemon:
    flag = directory / "ready"
    return Daemon(
        command=[sys.executable, "-c", script, str(flag)],
        environment=dict(os.environ),
        log=directory / "log",
        ready=flag.exists,
        stop_timeout_s=0.5,
    )


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.integration
@pytest.mark.parametrize("script", [WAIT_FOR_SIGNAL, DEAF], ids=["willing", "deaf"])
def test_a_daemon_runs_within_its_context_only(tmp_path: Path, script: str) -> None:
    with running(daemon(tmp_path, script)) as pid:
        assert is_alive(pid)
    assert not is_alive(pid)


@pytest.mark.integration
def test_a_daemon_that_ends_at_start_is_reported_with_its_last_words(tmp_path: Path) -> None:
    failing = daemon(tmp_path, "import sys; sys.exit('no room on this device')")
    with pytest.raises(ServiceError, match=r"ended with 1 at start: no room on this device"), running(failing):
        pass
