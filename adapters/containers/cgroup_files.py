"""The files of control groups: where the hierarchies are mounted, and how each version writes a limit. No state."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

UNIFIED = ""
LEGACY_HIERARCHIES = ("memory", "cpu", "cpuacct", "pids", "freezer")
UNIFIED_CONTROLLERS = frozenset({"memory", "cpu", "pids"})
CPU_PERIOD_US = 100_000

MEMORY, CPU, PROCESSES = "memory limit", "cpu limit", "process limit"


class Limits(msgspec.Struct, frozen=True):
    """What one job may have: bytes of memory, cores, processes and threads; 0 is no limit."""

    memory: int = 0
    cpus: float = 0
    pids: int = 0

    def wanted(self) -> tuple[str, ...]:
        """Name the limits that are asked for."""
        asked = {MEMORY: self.memory, CPU: self.cpus, PROCESSES: self.pids}
        return tuple(word for word, value in asked.items() if value)

    @property
    def quota_us(self) -> int:
        """Return processor time per period."""
        return max(1_000, int(self.cpus * CPU_PERIOD_US))


def limits_unified(directory: str, limits: Limits) -> set[str]:
    """Set what a version 2 group can hold; return the words of what is set."""
    held: set[str] = set()
    if limits.memory and _try_write(directory, "memory.max", str(limits.memory)):
        # Both are refinements: swap may be compiled out, the other is newer.
        _try_write(directory, "memory.swap.max", "0")
        _try_write(directory, "memory.oom.group", "1")
        held.add(MEMORY)
    if limits.cpus and _try_write(directory, "cpu.max", f"{limits.quota_us} {CPU_PERIOD_US}"):
        # Below the default of 100, so that the runner gets its turn first.
        _try_write(directory, "cpu.weight", "50")
        held.add(CPU)
    if limits.pids and _try_write(directory, "pids.max", str(limits.pids)):
        held.add(PROCESSES)
    return held


def _limit_memory(directory: str, limits: Limits) -> set[str]:
    if not limits.memory or not _try_write(directory, "memory.limit_in_bytes", str(limits.memory)):
        return set()
    _try_write(directory, "memory.memsw.limit_in_bytes", str(limits.memory))
    return {MEMORY}


def _limit_cpu(directory: str, limits: Limits) -> set[str]:
    if not limits.cpus or not _try_write(directory, "cpu.cfs_period_us", str(CPU_PERIOD_US)):
        return set()
    # Below the default of 1024, so that the runner gets its turn first.
    _try_write(directory, "cpu.shares", "512")
    return {CPU} if _try_write(directory, "cpu.cfs_quota_us", str(limits.quota_us)) else set()


def _limit_pids(directory: str, limits: Limits) -> set[str]:
    return {PROCESSES} if limits.pids and _try_write(directory, "pids.max", str(limits.pids)) else set()


def _limit_nothing(_directory: str, _limits: Limits) -> set[str]:
    return set()


limits_legacy: dict[str, Callable[[str, Limits], set[str]]] = {
    "memory": _limit_memory,
    "cpu": _limit_cpu,
    "cpuacct": _limit_nothing,
    "pids": _limit_pids,
    "freezer": _limit_nothing,
}


def write(directory: str, name: str, text: str) -> None:
    """Write a control file, which must take it in one piece."""
    descriptor = os.open(os.path.join(directory, name), os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _try_write(directory: str, name: str, text: str) -> bool:
    with contextlib.suppress(OSError):
        write(directory, name, text)
        return True
    return False


def own_directories() -> dict[str, str]:
    """Return this process's directory in each mounted hierarchy: version 2 under "", version 1 by controller."""
    mountinfo, cgroup = (Path(f"/proc/self/{name}").read_bytes() for name in ("mountinfo", "cgroup"))
    return read_own_directories(os.fsdecode(mountinfo), os.fsdecode(cgroup))


def read_own_directories(mountinfo: str, cgroup: str) -> dict[str, str]:
    """Return the directories that the two files of /proc name."""
    places: dict[str, str] = {}
    for line in cgroup.splitlines():
        _, controllers, path = line.split(":", 2)
        places.update(dict.fromkeys(controllers.split(","), path))
    found: dict[str, str] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        root, point = before.split()[3:5]
        kind, _, options = after.split(" ", 2)
        for hierarchy in _hierarchies(kind, options):
            if hierarchy in places:
                found.setdefault(hierarchy, _inside(point, root, places[hierarchy]))
    return found


def _hierarchies(kind: str, options: str) -> list[str]:
    if kind == "cgroup2":
        return [UNIFIED]
    return [word for word in options.split(",") if word in LEGACY_HIERARCHIES] if kind == "cgroup" else []


def _inside(point: str, root: str, path: str) -> str:
    """Return where a group lies below a mount that shows only the part below ``root``."""
    if root == "/":
        return os.path.join(point, path.strip("/")).rstrip("/")
    within = path == root or path.startswith(root + "/")
    return os.path.join(point, path[len(root) :].strip("/")).rstrip("/") if within else point
