"""
A private LocalStack, in memory, on a free loopback port: SQS and S3. Tests get `RUNNER_TEST_SQS`, its URL.

It is a Python program and runs in an environment of its own, made at the first use and kept for later runs. Every
access key of twelve digits is an account of its own.
"""

import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.services import made
from tests.services.daemon import Daemon, running
from tests.services.ports import free_port
from tests.services.service import Service

REQUIREMENTS = Path(__file__).with_name("localstack-requirements.txt")
START_TIMEOUT_S = 60.0
SETTINGS = {
    "SERVICES": "s3,sqs",
    "STRICT_SERVICE_LOADING": "1",
    "DISABLE_EVENTS": "1",
    "SKIP_SSL_CERT_DOWNLOAD": "1",
    "DNS_ADDRESS": "0",
    "S3_SKIP_SIGNATURE_VALIDATION": "0",
    "SQS_ENDPOINT_STRATEGY": "path",
    "LS_LOG": "warning",
    # The other gateway listens on every interface, whatever it is told.
    "GATEWAY_SERVER": "hypercorn",
}


@contextmanager
def start(directory: Path) -> Iterator[Mapping[str, str]]:
    """Start one that keeps nothing."""
    python = made.make(SERVICE_MADE, REQUIREMENTS)
    port = free_port()
    daemon = Daemon(
        command=[str(python), "-m", "localstack.runtime.main"],
        environment=environment(directory, port),
        log=directory / "localstack.log",
        ready=lambda: answers(port),
        start_timeout_s=START_TIMEOUT_S,
        # It takes seven seconds to leave by itself.
        stop_signal=signal.SIGKILL,
    )
    with running(daemon):
        yield {"RUNNER_TEST_SQS": f"http://127.0.0.1:{port}"}


def environment(directory: Path, port: int) -> dict[str, str]:
    """Return all that the program may know of this machine."""
    home = directory / "home"
    home.mkdir(exist_ok=True)
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "HOME": str(home),
        "TMPDIR": str(home),
        "LOCALSTACK_VOLUME_DIR": str(directory / "volume"),
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "LOCALSTACK_HOST": f"localhost:{port}",
        **SETTINGS,
    }


def answers(port: int) -> bool:
    """Say whether its own health page is there now."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_localstack/health", timeout=2.0) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


SERVICE_MADE = made.place(REQUIREMENTS)
SERVICE = Service(
    name="localstack",
    purpose="queues in SQS, and stores in S3",
    programs=(),
    packages=(),
    root_needed=False,
    start=start,
    made=SERVICE_MADE,
)
