"""A private Redis, in memory, on a free loopback port. Tests get `RUNNER_TEST_REDIS`, its URL."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.services.daemon import Daemon, running
from tests.services.ports import free_port
from tests.services.service import Service, find_program


@contextmanager
def start(directory: Path) -> Iterator[Mapping[str, str]]:
    """Start one that keeps nothing."""
    port = free_port()
    daemon = Daemon(
        command=redis_command(directory, port),
        environment=dict(os.environ),
        log=directory / "redis.log",
        ready=lambda: answers(port),
        stop_timeout_s=5.0,
    )
    with running(daemon):
        yield {"RUNNER_TEST_REDIS": f"redis://127.0.0.1:{port}"}


def redis_command(directory: Path, port: int) -> list[str]:
    """Return the command of a server that stays in the foreground and writes nothing to the disk."""
    return [
        find_program("redis-server") or "redis-server",
        *("--bind", "127.0.0.1", "--port", str(port), "--dir", str(directory)),
        *("--save", "", "--appendonly", "no", "--databases", "64"),
    ]


def answers(port: int) -> bool:
    """Say whether a server answers a ping now."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(7) == b"+PONG\r\n"
    except OSError:
        return False


SERVICE = Service(
    name="redis",
    purpose="queues and results in Redis",
    programs=("redis-server",),
    packages=("redis-server",),
    root_needed=False,
    start=start,
)
