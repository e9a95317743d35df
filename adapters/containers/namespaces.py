"""
What a job sees of the box where the runner is root: its own mounts, network and shared memory.

``enter`` changes the calling thread for good, so that thread starts the job and ends. The runner keeps its own view.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from adapters.containers import syscalls
from adapters.containers.syscalls import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
)

TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108 - these are hidden behind a private directory, not used
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - the same


class View(msgspec.Struct, frozen=True):
    """
    One job's view: a network with nothing but itself in it, and everything read-only but for ``writable``.

    ``temporary`` stands in for /tmp and /var/tmp. ``hidden`` directories look empty but for what of ``writable`` and
    ``readable`` lies below them. Paths are real and absolute; ``shm_bytes`` bounds /dev/shm, 0 leaves it to the kernel.
    """

    temporary: str
    writable: tuple[str, ...]
    readable: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    shm_bytes: int = 0


def enter(view: View) -> None:
    """
    Move the calling thread, and what it starts, into a view.

    Raises:
        OSError: the kernel or a container around the runner forbids it; the thread must end.
    """
    syscalls.unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWNET)
    syscalls.bring_up_loopback()
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_SLAVE)
    # Held open, so that they can be bound again once something hides their paths.
    held = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in (view.temporary, *view.writable, *view.readable)}
    try:
        _hide(view, held)
        _bind_back(view, held)
    finally:
        for descriptor in held.values():
            os.close(descriptor)


def _hide(view: View, held: dict[str, int]) -> None:
    syscalls.set_read_only("/", read_only=True, recursive=True)
    syscalls.mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "hidepid=2")
    for directory in sorted(view.hidden):
        syscalls.mount("hidden", directory, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m")
    for directory in TEMPORARY:
        if Path(directory).is_dir():
            _bind(held[view.temporary], directory, writable=True)
    if Path(SHARED_MEMORY).is_dir():
        size = f",size={view.shm_bytes}" if view.shm_bytes else ""
        syscalls.mount("shm", SHARED_MEMORY, "tmpfs", MS_NOSUID | MS_NODEV, f"mode=1777{size}")


def _bind_back(view: View, held: dict[str, int]) -> None:
    covered = (*view.hidden, *TEMPORARY, SHARED_MEMORY)
    for path in sorted({*view.writable, *view.readable}):
        writable = path in view.writable
        if not writable and not is_below(path, covered):
            continue
        _make_target(path, held[path])
        _bind(held[path], path, writable=writable)


def _make_target(path: str, descriptor: int) -> None:
    if Path(path).exists():
        return
    if Path(f"/proc/self/fd/{descriptor}").is_dir():
        Path(path).mkdir(parents=True)
    else:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()


def _bind(descriptor: int, target: str, *, writable: bool) -> None:
    syscalls.mount(f"/proc/self/fd/{descriptor}", target, "", MS_BIND)
    if writable:
        syscalls.set_read_only(target, read_only=False)


def is_below(path: str, directories: Iterable[str]) -> bool:
    """Tell whether a path is one of these directories or lies below one."""
    return any(path == directory or path.startswith(directory.rstrip("/") + "/") for directory in directories)
