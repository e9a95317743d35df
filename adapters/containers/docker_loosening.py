"""
What the box or a queue loosened for a job, made ready for the engine, or refused with the reason.

Whether a job may ask for it was decided before. Functions that read files block.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection

from adapters.containers.docker_engine import UNIX
from runner.errors import BadInput, RuntimeMissing


def read_profile(path: str) -> str:
    """
    Return the text of a seccomp profile; empty where there is no path.

    Raises:
        RuntimeMissing: the file cannot be read, or is no profile.
    """
    if not path:
        return ""
    try:
        with open(path, encoding="utf-8") as file:
            profile = json.load(file)
    except OSError as error:
        raise RuntimeMissing(f"seccomp profile {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RuntimeMissing(f"seccomp profile {path} is not JSON: {error}") from error
    if not isinstance(profile, dict) or "defaultAction" not in profile:
        raise RuntimeMissing(f"seccomp profile {path} has no defaultAction: the engine takes none without one")
    return json.dumps(profile, separators=(",", ":"))


def check_runtime(name: str, known: Collection[str]) -> None:
    """
    Check that the engine has a runtime of this name; empty: its own. One with dots in it newer engines find by itself.

    Raises:
        RuntimeMissing: it has not.
    """
    if name and "." not in name and name not in known:
        raise RuntimeMissing(
            f'oci_runtime = "{name}": the engine has no runtime of that name, only {", ".join(sorted(known))}; '
            "add it to runtimes in daemon.json"
        )


def closed_paths(url: str, *ours: str) -> tuple[str, ...]:
    """Name what no job may see: the engine's socket, where it has one, and what is the runner's own."""
    socket = (url.removeprefix(UNIX),) if url.startswith(UNIX) else ()
    return (*filter(None, ours), *socket)


def check_mounts(mounts: Collection[str], closed: Collection[str], taken: str) -> None:
    """
    Check that directories can be given to a job, which sees them under their own paths.

    ``closed`` are paths of the box that no job may see: the engine's socket, the runner's own state. Below ``taken``
    the job has its own files, and the engine would make directories there for root.

    Raises:
        RuntimeMissing: one is not there; another box may have it.
        BadInput: one is, holds or lies in something of these.
    """
    for mount in mounts:
        real = os.path.realpath(mount)
        if not os.path.isabs(mount) or not os.path.exists(real):
            raise RuntimeMissing(f"mounts: {mount} is not on this box; make it, or take it out of mounts")
        if _meets(os.path.normpath(mount), taken):
            raise BadInput(f"mounts: {mount} cannot be given to a job: its own files stand at {taken}")
        for path in closed:
            if _meets(real, os.path.realpath(path)):
                raise BadInput(f"mounts: {mount} cannot be given to a job: it is, holds, or lies in {path}")


def _meets(one: str, other: str) -> bool:
    return os.path.commonpath((one, other)) in {one, other}
