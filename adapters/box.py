"""What this machine has for jobs: cores by affinity, memory under its own limit, the disk under the workspaces."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

from runner.config import Config
from runner.ports import Box

KEPT_BACK = 0.05
"""The share of memory and disk that is not handed out, for the runner and the system."""
THREADS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def measure_box(config: Config, box_id: str, disk_path: str) -> Box:
    """Return the box as jobs may use it; the configuration can only make it smaller."""
    all_cores = tuple(sorted(os.sched_getaffinity(0)))
    cores = all_cores[: config.max_cores] if config.max_cores else all_cores
    memory = int(_memory() * (1 - KEPT_BACK))
    disk = int(shutil.disk_usage(disk_path).free * (1 - KEPT_BACK))
    return Box(
        id=box_id,
        cores=cores,
        memory=min(memory, int(config.max_mem)) if config.max_mem else memory,
        disk=min(disk, int(config.max_disk)) if config.max_disk else disk,
        hostname=socket.gethostname(),
        spare=spare_cores(cores) if cores == all_cores else (),
    )


def spare_cores(cores: tuple[int, ...], threads: str = THREADS) -> tuple[int, ...]:
    """Return the first of these cores with its other threads, where that leaves some; ``threads`` is Linux's file."""
    try:
        listed = Path(threads.format(cores[0])).read_text("ascii").strip()
    except OSError:
        listed = ""
    found = cores[:1] + tuple(core for core in cores[1:] if core in numbers_in(listed))
    return next((some for some in (found, cores[:1]) if len(some) < len(cores)), ())


def numbers_in(listed: str) -> frozenset[int]:
    """Read a list of Linux's: ``0-1,32``."""
    ranges = (part.partition("-") for part in listed.split(",") if part)
    return frozenset(number for first, _, last in ranges for number in range(int(first), int(last or first) + 1))


def _memory() -> int:
    """Return the machine's memory, or this container's limit where that is lower."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in MEMORY_LIMITS:
        try:
            limit = int(path.read_text("ascii"))
        except (OSError, ValueError):
            continue  # no such hierarchy, or "max"
        return min(total, limit)
    return total
