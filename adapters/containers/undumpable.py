"""Keeps other processes of the runner's user away from the runner's memory, environment and open files."""

from __future__ import annotations

import contextlib

from adapters.containers import syscalls


def make_undumpable() -> bool:
    """
    Forbid core dumps of, and tracing by, processes of the same user; ``/proc/<pid>`` then belongs to root.

    Returns False where the kernel refuses. Lasts until the next exec.
    """
    with contextlib.suppress(OSError):
        syscalls.set_dumpable(dumpable=False)
        return True
    return False
