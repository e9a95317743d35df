"""
A private moto server, in memory, on a free loopback port: a second SQS. Tests get `RUNNER_TEST_MOTO`, its URL.

It comes with the packages for developing. Every region is a world of its own, also one of any name.
"""

import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.services.daemon import Daemon, running
from tests.services.ports import free_port
from tests.services.service import Service, ServiceError

PROGRAM = Path(sys.executable).with_name("moto_server")


@contextmanager
def start(directory: Path) -> Iterator[Mapping[str, str]]:
    """Start one that keeps nothing."""
    if not PROGRAM.exists():
        raise ServiceError(f"{PROGRAM} is not there: moto comes with the packages of requirements-dev.txt")
    port = free_port()
    daemon = Daemon(
        command=[sys.executable, str(PROGRAM), "-H", "127.0.0.1", "-p", str(port)],
        environment={**os.environ, "MOTO_ALLOW_NONEXISTENT_REGION": "true", "LANG": "C.UTF-8"},
        log=directory / "moto.log",
        ready=lambda: answers(port),
        start_timeout_s=60.0,
        stop_signal=signal.SIGKILL,
    )
    with running(daemon):
        yield {"RUNNER_TEST_MOTO": f"http://127.0.0.1:{port}"}


def answers(port: int) -> bool:
    """Say whether its own page is there now."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=2.0) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


SERVICE = Service(
    name="moto",
    purpose="queues in a second SQS",
    programs=(),
    packages=(),
    root_needed=False,
    start=start,
)
