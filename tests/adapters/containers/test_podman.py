"""Podman's Docker-compatible socket: told apart and refused, with the reason."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.at_work import at_work
from tests.cli.typed import started
from tests.services.daemon import Daemon, running
from tests.services.engine import Engine

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("podman"), reason="needs Podman, and root to run it"),
]
REFUSED = "Podman answers at {url}, which keeps no log that can be read on from a byte"


@contextmanager
def podman() -> Iterator[str]:
    """Have its real service answer, everything of it in a directory with a short path, and yield its URL."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="rt-podman-") as directory:
        here, socket = Path(directory), Path(directory, "s")
        places = [f"--root={here}/root", f"--runroot={here}/run", f"--tmpdir={here}/tmp"]
        ways = ["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=file"]
        daemon = Daemon(
            command=["podman", *places, *ways, "system", "service", "--time=0", f"unix://{socket}"],
            environment=os.environ,
            log=here / "log",
            ready=Engine(socket).answers,
        )
        with running(daemon):
            yield f"unix://{socket}"


def test_podman_is_told_apart_and_refused_with_the_reason(tmp_path: Path) -> None:
    """It would run jobs, and be wrong about how they end."""
    with podman() as url:
        said = started("doctor", "--docker-host", url, "--state-dir", tmp_path / "state")
        assert REFUSED.format(url=url) in " ".join(said.out.split())
        with at_work(tmp_path / "state", "--docker-host", url) as box:
            assert REFUSED.format(url=url) in box.wait_for("reap")["reason"]
