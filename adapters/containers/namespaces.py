"""
What a job sees of the box where the runner is root: its own mounts, network and shared memory.

``enter`` changes the calling thread for good, so that thread starts the job and ends. The runner keeps its own view.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

import msgspec

from adapters.containers import syscalls
from adapters.containers.syscalls import CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, MS_NODEV, MS_NOEXEC, MS_NOSUID

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
    # Copied with their own rights, before all else becomes read-only and something hides their paths.
    places = [*((directory, view.temporary) for directory in TEMPORARY if Path(directory).is_dir())]
    places += sorted((path, path) for path in {*view.writable, *view.readable})
    with contextlib.ExitStack() as stack:
        copies = [(target, syscalls.clone_tree(source)) for target, source in places]
        for _, copy in copies:
            stack.callback(os.close, copy)
        _hide(view)
        for target, copy in copies:
            _attach(copy, target)
    for path in view.readable:
        syscalls.set_read_only(path)


def _hide(view: View) -> None:
    syscalls.set_read_only("/")
    syscalls.mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "hidepid=2")
    for directory in sorted(view.hidden):
        syscalls.mount("hidden", directory, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m")
    if Path(SHARED_MEMORY).is_dir():
        size = f",size={view.shm_bytes}" if view.shm_bytes else ""
        syscalls.mount("shm", SHARED_MEMORY, "tmpfs", MS_NOSUID | MS_NODEV, f"mode=1777{size}")


def _attach(copy: int, target: str) -> None:
    if not Path(target).exists():
        if stat.S_ISDIR(os.fstat(copy).st_mode):
            Path(target).mkdir(parents=True)
        else:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            Path(target).touch()
    syscalls.attach_tree(copy, target)


def is_below(path: str, directories: Iterable[str]) -> bool:
    """Tell whether a path is one of these directories or lies below one."""
    return any(path == directory or path.startswith(directory.rstrip("/") + "/") for directory in directories)
