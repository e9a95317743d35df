"""What `doctor` asks the machine itself."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import time
from contextlib import suppress
from pathlib import Path

from runner.config import Config
from runner.errors import RunnerError
from runner.receipt import Check
from runner.units import format_size

PYTHON_OLDEST = (3, 11)
DISK_LOW = 0.05
DISK_LEAST_BYTES = 1 << 30
INODES_LEAST = 10_000
STA_UNSYNC = 0x40
CLOCK_EARLIEST = 1_767_225_600.0
"""2026-01-01, before which no clock can be right."""


def python() -> Check:
    """Look at the interpreter."""
    found = platform.python_version()
    if sys.version_info < PYTHON_OLDEST:
        return Check("python", "fail", found, "make venv PYTHON=/path/to/python3.11")
    return Check("python", "ok", found)


def state(path: Path) -> Check:
    """Look at the state directory; it is not made."""
    from adapters.state_dir import StateDir

    if not path.exists():
        parent = existing(path)
        if os.access(parent, os.W_OK | os.X_OK):
            return Check("state directory", "ok", f"{path} will be made at the first start")
        return Check(
            "state directory", "fail", f"{path} cannot be made: {parent} is not writable", "name another: --state-dir"
        )
    try:
        StateDir(str(path))
    except RunnerError as error:
        return Check("state directory", "fail", str(error), "see its text")
    return Check("state directory", "ok", str(path))


def existing(path: Path) -> Path:
    """Return the nearest directory above that exists."""
    return next(parent for parent in (path, *path.parents) if parent.exists())


def running(path: Path) -> Check:
    """Look whether a runner answers."""
    from adapters.http.client import ControlClient
    from runner.cli.paths import control_socket, start_command

    try:
        health = ControlClient(control_socket(path)).health()
    except RunnerError:
        return Check("runner", "warn", "none is running on this state directory", start_command(path))
    return Check("runner", "ok", f"version {health.version} runs as process {health.pid}")


def disk(path: Path) -> Check:
    """Look at room and inodes under the state directory."""
    place = existing(path)
    found = os.statvfs(place)
    free, total, inodes = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize, found.f_favail
    told = f"{format_size(free)} of {format_size(total)} free at {place}"
    if found.f_files and inodes < INODES_LEAST:
        return Check(
            "disk", "fail", f"{inodes} inodes are left at {place}", "delete files, or name another --state-dir"
        )
    if free < DISK_LEAST_BYTES:
        return Check("disk", "fail", told, "free some space, or name another --state-dir")
    return Check("disk", "ok", told) if free > DISK_LOW * total else Check("disk", "warn", told, "free some space soon")


class _Timex(ctypes.Structure):
    """``struct timex``: only its third field is read here; the rest is room for what the kernel writes."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("before", ctypes.c_long * 4),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 32),
    )


def clock() -> Check:
    """Look at the wall clock: leases and signatures go by it."""
    told = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    if time.time() < CLOCK_EARLIEST:
        return Check("clock", "fail", told, "set it: timedatectl set-ntp true")
    timex = _Timex()
    answer = -1
    with suppress(OSError, AttributeError):
        answer = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    if answer < 0 or timex.status & STA_UNSYNC:
        return Check(
            "clock",
            "warn",
            f"{told}, not kept by a time service as far as the kernel knows",
            "timedatectl set-ntp true",
        )
    return Check("clock", "ok", f"{told}, kept by a time service")


def cgroups() -> Check:
    """Look which limits of process jobs this runner may set."""
    from adapters.containers.cgroup_files import LEGACY_HIERARCHIES, UNIFIED, own_directories

    found = {name: path for name, path in own_directories().items() if name in {UNIFIED, *LEGACY_HIERARCHIES}}
    writable = sorted(name or "version 2" for name, path in found.items() if os.access(path, os.W_OK | os.X_OK))
    if not found:
        return Check(
            "cgroups", "warn", "none are mounted: process jobs have no memory or cpu limit", "use container jobs"
        )
    if not writable:
        fix = "run as root, or as a service with Delegate=yes"
        return Check("cgroups", "warn", "not writable: process jobs have no memory or cpu limit", fix)
    return Check("cgroups", "ok", f"may be made: {', '.join(writable)}")


def isolation(config: Config) -> Check:
    """Look how process jobs are kept apart here."""
    from adapters.containers.confinement import find_confinement
    from adapters.containers.uids import Uids

    uids = None
    with suppress(ValueError):
        first, _, count = config.job_uids.partition(":")
        uids = Uids(int(first), int(count))
    try:
        found = find_confinement(config.state_dir, uids)
    except RunnerError as error:
        return Check("isolation", "fail", str(error), "apt-get install util-linux")
    told = f"process jobs: {_WAYS[found.way]}; open: {', '.join(found.missing)}"
    if found.way == "plain":
        return Check("isolation", "warn", told, "install bubblewrap, or run as root, or use container jobs")
    return Check("isolation", "ok", told)


_WAYS = {
    "view": "a user, mounts and a network of their own",
    "uid": "a user of their own",
    "bwrap": "kept apart by bwrap, as the runner's user",
    "plain": "not kept apart, as the runner's user",
}
