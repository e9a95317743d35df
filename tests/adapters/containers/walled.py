"""
An engine in network namespaces of its own, with a packet filter, a bridge and remapped users.

Namespaces live as long as a process in them, which ends with the test, whatever becomes of that. Metadata services, the
box and a host beyond it all answer there, so that what a job does not reach was filtered.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.adapters.containers.docker_boxes import DockerBox, DockerMachine
from tests.services.docker import PYTHON_IMAGE, engine_in
from tests.services.rootfs import write_host_python
from tests.services.service import find_program

T = TypeVar("T")
CLONE_NEWNET = 0x40000000
BOX, BEYOND = "203.0.113.1", "203.0.113.2"
HERE = ("169.254.169.254", "192.0.0.192", "fd00:ec2::254")
"""Metadata services that the box itself would answer for, as some clouds' agents do."""
THERE = ("169.254.170.2", "100.100.100.200", "168.63.129.16")
"""Those that stand beyond it."""
REWRITTEN = {"203.0.113.77": BOX, "203.0.113.78": THERE[0]}
"""Addresses beyond that the box rewrites to others, as proxies of services do."""
NAMES = {"beyond.test": BEYOND, "metadata.test": HERE[0], "far.metadata.test": THERE[0], "box.test": BOX}
MAPPINGS = ("/etc/subuid", "/etc/subgid")
MAPPED_FROM, MAPPED = 300_000, 65_536


@dataclass
class Namespace:
    """One network namespace, by a process in it."""

    pid: int

    def run(self, *command: str) -> str:
        """Run a command in it and return what it printed."""
        entered = ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--", *command]
        return subprocess.run(entered, check=True, capture_output=True, text=True).stdout

    def within(self, work: Callable[[], T]) -> T:
        """Do something in a thread that is in it; threads and processes begun by that one are, too."""
        results: list[T] = []
        errors: list[BaseException] = []

        def enter_and_work() -> None:
            try:
                self._enter()
                results.append(work())
            except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
                errors.append(error)

        thread = threading.Thread(target=enter_and_work)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def _enter(self) -> None:
        with Path(f"/proc/{self.pid}/ns/net").open("rb") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "a network namespace could not be entered")


@dataclass
class Walled:
    """The engine's URL, the box that it runs on, and the host beyond."""

    url: str
    box: Namespace
    beyond: Namespace


@dataclass
class WalledMachine(DockerMachine):
    """A machine whose runner is in the namespace that its engine is in."""

    walled: Walled

    def run(self, scenario: Callable[[DockerBox], Coroutine[Any, Any, T]], **changes: object) -> T:
        """Run a scenario there."""
        return self.walled.box.within(lambda: DockerMachine.run(self, scenario, **changes))


@contextmanager
def walled_engine(directory: Path) -> Iterator[Walled]:
    """Start all of it, and leave nothing."""
    # Remapped users must get through to the files of their images.
    directory.chmod(0o711)
    with ExitStack() as stack:
        names = [f"{name}={address}" for name, address in NAMES.items()]
        box, beyond = (stack.enter_context(_served_namespace(names)) for _ in range(2))
        _connect(box, beyond)
        for address, to in REWRITTEN.items():
            box.run("iptables", "-t", "nat", "-A", "PREROUTING", "-d", address, "-j", "DNAT", "--to-destination", to)
        inside = (*_mapping(directory), "nsenter", f"--net=/proc/{box.pid}/ns/net", "--")
        flags = (
            "--iptables=true", "--ip6tables=false", "--userland-proxy=false", f"--dns={BEYOND}", "--bip=192.0.2.1/24",
            "--default-address-pool=base=198.51.100.0/24,size=28", "--userns-remap=nobody:nogroup",
        )  # fmt: skip
        socket = stack.enter_context(
            engine_in(directory, flags, {PYTHON_IMAGE: write_host_python}, inside=inside, has_gpus=False)
        )
        yield Walled(f"unix://{socket}", box, beyond)


@contextmanager
def _served_namespace(names: list[str]) -> Iterator[Namespace]:
    command = ["setpriv", "--pdeathsig", "KILL", "--", "unshare", "--net", "--"]
    server = [sys.executable, "-m", "tests.adapters.containers.outside", *names]
    with subprocess.Popen([*command, *server], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            assert "ready" in process.stdout.readline()
            namespace = Namespace(process.pid)
            namespace.run("ip", "link", "set", "lo", "up")
            yield namespace
        finally:
            process.kill()


def _connect(box: Namespace, beyond: Namespace) -> None:
    box.run("ip", "link", "add", "outer", "type", "veth", "peer", "name", "outer", "netns", str(beyond.pid))
    for namespace, address, own in ((box, BOX, HERE), (beyond, BEYOND, THERE)):
        namespace.run("ip", "link", "set", "outer", "up")
        for device, addresses in (("outer", [f"{address}/24"]), ("lo", own)):
            for one in addresses:
                namespace.run("ip", "address", "add", one, "dev", device, *(["nodad"] if ":" in one else []))
    for one in THERE:
        box.run("ip", "route", "add", one, "via", BEYOND)
    box.run("ip", "route", "add", "default", "via", BEYOND)


def _mapping(directory: Path) -> tuple[str, ...]:
    """Give the engine a mapping of users without writing it into the machine's own files."""
    table = directory / "mapping"
    table.write_text(f"nobody:{MAPPED_FROM}:{MAPPED}\nnogroup:{MAPPED_FROM}:{MAPPED}\n")
    bind = 'mount --bind "$0" "$1" && mount --bind "$0" "$2" && shift 2 && exec "$@"'
    return ("sh", "-c", bind, str(table), *MAPPINGS)


def obstacle() -> str:
    """Say why such an engine cannot be had here; "" where it can."""
    if os.geteuid() != 0:
        return "needs root"
    if not all(Path(file).exists() for file in MAPPINGS):
        return f"there is no {' or no '.join(MAPPINGS)}"
    missing = [program for program in ("ip", "nsenter", "iptables", "setpriv", "unshare") if not find_program(program)]
    return f"not installed: {', '.join(missing)}" if missing else ""
