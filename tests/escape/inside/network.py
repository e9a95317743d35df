"""Ways out by sockets: the box's services, the engine, the cloud's metadata."""

import os
import socket
from collections.abc import Callable

from tests.escape.inside.world import NotTriedError, World, probe

LIMIT_S = 1.0
ENGINES = (
    "/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock",
    "/run/crio/crio.sock", "/run/buildkit/buildkitd.sock", "/run/user/0/podman/podman.sock",
    "/run/docker/containerd/containerd.sock", "/var/run/dockershim.sock", "/run/snap.docker/docker.sock",
)  # fmt: skip
# The same address in the spellings that filters have been passed by, and what else clouds use.
METADATA = (
    "169.254.169.254", "::ffff:169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518",
    "fd00:ec2::254", "169.254.170.2", "100.100.100.200", "192.0.0.192", "168.63.129.16",
)  # fmt: skip


def connected(paths: list[str]) -> str:
    refusal = OSError("none")
    for path in paths:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(LIMIT_S)
                client.connect(path)
                return path.replace("\0", "@")
        except OSError as error:
            refusal = error
    raise refusal


@probe
def socket_of_an_engine(world: World) -> str:
    own = [f"{os.environ[name]}/podman/podman.sock" for name in ("XDG_RUNTIME_DIR",) if name in os.environ]
    return connected([*ENGINES, world["engine"], *own])


@probe
def control_socket_of_the_runner(world: World) -> str:
    return connected([world["control"]])


@probe
def socket_for_everybody(world: World) -> str:
    return connected([world["socket"]])


@probe
def abstract_socket(world: World) -> str:
    return connected(["\0" + world["abstract"]])


@probe
def loopback_of_the_box(world: World) -> str:
    with socket.create_connection(("127.0.0.1", int(world["port"])), LIMIT_S):
        return f"port {world['port']}"


def is_alone() -> bool:
    return {name for _, name in socket.if_nameindex()} <= {"lo", "tunl0", "sit0", "ip6tnl0", "gre0", "gretap0"}


@probe
def metadata_of_the_cloud(_: World) -> str:
    """Never tried from where it could answer: what a box's network lets through is the box's."""
    if not is_alone():
        raise NotTriedError("it has the box's network")
    refusal = OSError("none")
    for name in METADATA:
        try:
            family = socket.AF_INET6 if ":" in name else socket.AF_INET
            with socket.socket(family) as client:
                client.settimeout(LIMIT_S)
                client.connect((name, 80))
                return name
        except OSError as error:
            refusal = error
    raise refusal


@probe
def interfaces(_: World) -> str:
    return "" if is_alone() else ", ".join(name for _, name in socket.if_nameindex())


def made(*arguments: int) -> Callable[[World], str]:
    def program(_: World) -> str:
        with socket.socket(*arguments):
            return "a socket"

    return program


@probe
def raw_socket(world: World) -> str:
    return made(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)(world)


@probe
def packet_socket(world: World) -> str:
    return made(socket.AF_PACKET, socket.SOCK_RAW, 0)(world)


@probe
def socket_to_the_hypervisor(world: World) -> str:
    return made(socket.AF_VSOCK, socket.SOCK_STREAM)(world)
