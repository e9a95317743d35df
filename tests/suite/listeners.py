"""What listens on the ports and the socket that services use by default: tests must leave these as they were."""

from collections.abc import Iterable
from pathlib import Path

STANDARD_PORTS = frozenset({2375, 2376, 5000, 5672, 6379, 9000, 15672})
STANDARD_SOCKET = Path("/var/run/docker.sock")
LISTEN_STATE = "0A"
TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def standing(ports: Iterable[int] = STANDARD_PORTS, socket: Path = STANDARD_SOCKET) -> frozenset[str]:
    """Describe each listener on one of the ports, and the socket file; equal sets mean nothing changed."""
    wanted = frozenset(ports)
    found = {f"{address} port {port}" for address, port in _listening() if port in wanted}
    if socket.exists():
        status = socket.stat()
        found.add(f"{socket} inode {status.st_ino} made at {status.st_ctime_ns}")
    return frozenset(found)


def _listening() -> Iterable[tuple[str, int]]:
    for table in TABLES:
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            _, local, _, state, *_ = line.split()
            address, _, port = local.partition(":")
            if state == LISTEN_STATE:
                yield address, int(port, 16)
