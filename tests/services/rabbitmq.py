"""
A private RabbitMQ node with its management API, on free loopback ports.

Tests get `RUNNER_TEST_RABBITMQ` (an AMQP URL with user and password) and `RUNNER_TEST_RABBITMQ_MANAGEMENT` (an HTTP
URL). A delivery may stay unacknowledged for ten seconds, so that whatever holds one for long is found out.
"""

import base64
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.services.daemon import Daemon, running
from tests.services.ports import free_port
from tests.services.service import Service, ServiceError, find_program

SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"
"""The program itself: the one in the path changes the user and the directory first."""

USER = PASSWORD = "guest"
CONSUMER_TIMEOUT_MS = 10_000
TICK_MS = 1000
"""The node looks so often whether a delivery is held too long."""
EPMD_STOP_S = 10.0
POLL_INTERVAL_S = 0.05


@contextmanager
def start(directory: Path) -> Iterator[Mapping[str, str]]:
    """Start a node with everything of its own, also the port mapper that it starts and leaves behind."""
    port, management, distribution, mapper = (free_port() for _ in range(4))
    write_configuration(directory, port, management)
    daemon = Daemon(
        command=[SERVER],
        environment=node_environment(directory, node=f"t{port}@localhost", distribution=distribution, mapper=mapper),
        log=directory / "rabbitmq.log",
        ready=lambda: answers(port, management),
        start_timeout_s=90.0,
        stop_timeout_s=20.0,
    )
    try:
        with running(daemon):
            yield {
                "RUNNER_TEST_RABBITMQ": f"amqp://{USER}:{PASSWORD}@127.0.0.1:{port}/",
                "RUNNER_TEST_RABBITMQ_MANAGEMENT": f"http://127.0.0.1:{management}",
            }
    finally:
        stop_mapper(mapper)


def write_configuration(directory: Path, port: int, management: int) -> None:
    """Write what the node reads as it starts."""
    (directory / "enabled_plugins").write_text("[rabbitmq_management].\n")
    (directory / "rabbitmq.conf").write_text(
        f"listeners.tcp.1 = 127.0.0.1:{port}\n"
        f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}\n"
        f"consumer_timeout = {CONSUMER_TIMEOUT_MS}\n"
        "log.console = true\nlog.file = false\nlog.console.level = warning\n"
        "vm_memory_high_watermark.absolute = 1GB\ndisk_free_limit.absolute = 50MB\n"
    )


def node_environment(directory: Path, *, node: str, distribution: int, mapper: int) -> dict[str, str]:
    """Return the environment of a node that touches nothing outside its directory."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "LANG": "C.UTF-8",
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_NODENAME": node,
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
        "RABBITMQ_LOG_BASE": str(directory / "log"),
        "RABBITMQ_PID_FILE": str(directory / "pid"),
        "ERL_CRASH_DUMP": str(directory / "erl_crash.dump"),
        "RABBITMQ_DIST_PORT": str(distribution),
        "ERL_EPMD_PORT": str(mapper),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} "
        f"-rabbit channel_tick_interval {TICK_MS} +sbwt none",
    }


def answers(port: int, management: int) -> bool:
    """Say whether both are served now: AMQP, and the management API."""
    token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{management}/api/overview", headers={"Authorization": f"Basic {token}"}
    )
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        with urllib.request.urlopen(request, timeout=2.0) as response:  # noqa: S310 - our own loopback server
            return bool(response.status == 200)
    except OSError:
        return False


def stop_mapper(port: int) -> None:
    """End the port mapper, which refuses until it has seen the node go."""
    ends_at = time.monotonic() + EPMD_STOP_S
    while time.monotonic() < ends_at:
        done = subprocess.run(
            [find_program("epmd") or "epmd", "-port", str(port), "-kill"], capture_output=True, text=True, check=False
        )
        if "Killed" in done.stdout or "Cannot connect" in done.stdout + done.stderr:
            return
        time.sleep(POLL_INTERVAL_S)
    raise ServiceError(f"epmd on port {port} outlives its node")


SERVICE = Service(
    name="rabbitmq",
    purpose="queues in RabbitMQ",
    programs=("rabbitmq-server", "epmd"),
    packages=("rabbitmq-server",),
    root_needed=True,
    start=start,
)
