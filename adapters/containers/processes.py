"""What /proc says about the processes of this box, read as cheaply as it can be. Blocks for a millisecond or a few."""

from __future__ import annotations

import os
from typing import NamedTuple

_READ_BYTES = 65_536
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_OVER = ("Z", "X")


class Process(NamedTuple):
    """One live process: its parent, its session, its processor time with that of children it waited for, its memory."""

    pid: int
    parent: int
    session: int
    cpu_seconds: float
    memory_bytes: int


def live_processes() -> dict[int, Process]:
    """Return all processes by pid, without those that only wait to be reaped."""
    found = (_process(pid) for pid in all_pids())
    return {process.pid: process for process in found if process is not None}


def all_pids() -> list[int]:
    """Return the number of every process, live or not."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def is_live_of(pid: int, uid: int) -> bool:
    """Tell whether a process is live and this user's."""
    try:
        owner = os.stat(f"/proc/{pid}").st_uid
    except FileNotFoundError:
        return False
    # The directory of a process that is not dumpable belongs to root.
    if owner != uid and (owner != 0 or _status(pid, "Uid") != str(uid)):
        return False
    return _status(pid, "State") not in _OVER


def environment(pid: int) -> list[bytes]:
    """Return a process's variables as it began, [] where they may not be read."""
    return _read(f"/proc/{pid}/environ").split(b"\0")


def _process(pid: int) -> Process | None:
    # The name before the last parenthesis may hold anything.
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].decode().split()
    if not fields or fields[0] in _OVER:
        return None
    ticks = sum(map(int, fields[11:15]))
    return Process(pid, int(fields[1]), int(fields[3]), ticks / _TICKS_PER_S, int(fields[21]) * _PAGE_BYTES)


def _status(pid: int, name: str) -> str:
    """Return the first word of a line of the status file."""
    for line in _read(f"/proc/{pid}/status").decode(errors="replace").splitlines():
        if line.startswith(f"{name}:"):
            return line.split()[1]
    return "X"


def _read(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        whole = b""
        while part := os.read(descriptor, _READ_BYTES):
            whole += part
        return whole
    except ProcessLookupError:
        return b""
    finally:
        os.close(descriptor)
