"""
Control groups of process jobs: finds where this runner may make them, makes one per job with its limits.

Version 2, or version 1 with one directory per controller. What cannot be had is left out and named; a box without any
still runs jobs. Every function blocks.
"""

from __future__ import annotations

import contextlib
import os
import subprocess

import msgspec

from adapters.containers.cgroup_files import (
    LEGACY_HIERARCHIES,
    UNIFIED,
    UNIFIED_CONTROLLERS,
    Limits,
    limits_legacy,
    limits_unified,
    own_directories,
    write,
)
from adapters.containers.cgroup_group import Group

_PROBE_LIMIT_S = 10
SUPERVISOR = "supervisor"


class Made(msgspec.Struct, frozen=True):
    """A new group's directories by hierarchy, and the limits that it could not be given, in words."""

    directories: dict[str, str]
    missing: tuple[str, ...]


class Cgroups:
    """
    Where groups are made: a directory per hierarchy, ``""`` for version 2, else the controller's name.

    Args:
        parents: existing directories that this process may write in.
        prefix: begins each group's name; tells runners apart.
    """

    def __init__(self, parents: dict[str, str], prefix: str = "runner.") -> None:
        self.parents = parents
        self._prefix = prefix

    @classmethod
    def detect(cls, prefix: str) -> Cgroups:
        """Find the hierarchies that this process may use, from its own place in them."""
        found = {name: path for name, path in own_directories().items() if name in (UNIFIED, *LEGACY_HIERARCHIES)}
        writable = {name: path for name, path in found.items() if os.access(path, os.W_OK | os.X_OK)}
        if "freezer" in writable:
            # Version 2 is there for bookkeeping alone; entering it takes longer than everything else.
            writable.pop(UNIFIED, None)
        elif UNIFIED in writable:
            writable[UNIFIED] = delegated(writable[UNIFIED])
        cgroups = cls(writable, prefix)
        return cgroups if cgroups.can_be_entered() else cls({}, prefix)

    def can_be_entered(self) -> bool:
        """Tell whether a process of this user may enter such groups, by letting one try."""
        group = Group(self.make(f"probe-{os.getpid()}", Limits()).directories)
        try:
            enter = ["/bin/sh", "-c", 'for file; do echo 0 > "$file" || exit 1; done', "sh", *group.joining()]
            return subprocess.run(enter, capture_output=True, check=False, timeout=_PROBE_LIMIT_S).returncode == 0
        finally:
            with contextlib.suppress(OSError):
                group.remove()

    def make(self, name: str, limits: Limits) -> Made:
        """Make a job's group; what an earlier life left under the name is used again."""
        directories: dict[str, str] = {}
        held: set[str] = set()
        for hierarchy, parent in self.parents.items():
            directory = os.path.join(parent, self._prefix + name)
            with contextlib.suppress(OSError):
                os.makedirs(directory, exist_ok=True)
                directories[hierarchy] = directory
                held |= (limits_unified if hierarchy == UNIFIED else limits_legacy[hierarchy])(directory, limits)
        return Made(directories, tuple(word for word in limits.wanted() if word not in held))


def delegated(own: str) -> str:
    """
    Return a version 2 directory whose children get the controllers, best first.

    A group with processes of its own cannot pass controllers on, so the runner moves aside where it is alone in there.
    """
    beside = os.path.dirname(own) if os.path.basename(own) == SUPERVISOR else own
    for candidate in (beside, _root_of(own)):
        if candidate and (_passes_on(candidate) or _moved_aside(candidate)):
            return candidate
    return beside


def _root_of(own: str) -> str | None:
    """Return the mount's root where root may use it: there alone processes and controllers may stand together."""
    if os.geteuid() != 0:
        return None
    path = own
    while os.path.exists(os.path.join(os.path.dirname(path), "cgroup.procs")):
        path = os.path.dirname(path)
    return path if path != own and os.access(path, os.W_OK) else None


def _passes_on(directory: str) -> bool:
    wanted = UNIFIED_CONTROLLERS & set(_words(directory, "cgroup.controllers"))
    if not wanted:
        return False
    if wanted <= set(_words(directory, "cgroup.subtree_control")):
        return True
    try:
        write(directory, "cgroup.subtree_control", " ".join(f"+{name}" for name in sorted(wanted)))
    except OSError:
        return False
    return True


def _moved_aside(directory: str) -> bool:
    if _words(directory, "cgroup.procs") != [str(os.getpid())]:
        return False
    try:
        aside = os.path.join(directory, SUPERVISOR)
        os.makedirs(aside, exist_ok=True)
        write(aside, "cgroup.procs", str(os.getpid()))
    except OSError:
        return False
    return _passes_on(directory)


def _words(directory: str, name: str) -> list[str]:
    try:
        with open(os.path.join(directory, name), encoding="ascii") as file:
            return file.read().split()
    except OSError:
        return []
