"""
Which user a container's job is: a uid as the container sees it, and the same as the box sees it. Pure.

They are one number, unless the engine remaps users (``userns-remap``): then each uid of a container is another user of
the box, and 0 may be given without being root.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

import msgspec

from adapters.containers.docker_state import Engineered
from runner.errors import RuntimeMissing, Unavailable

FIRST_REMAPPED = 60_000
"""Uids of jobs begin here inside a remapped container: below the 65,536 that each mapping has, above an image's own."""
# The engine keeps what belongs to a mapping in a directory that is named after it: /var/lib/docker/100000.100000.
_MAPPING = re.compile(r"/(\d+)\.\d+$")


class JobUser(msgspec.Struct, frozen=True):
    """A job's user: ``uid`` inside of the container, ``owner`` outside."""

    uid: int
    owner: int


def choose(
    uids: tuple[int, ...], taken: Collection[str], engine: Engineered, *, own_uid: int, as_root: bool, before: str = ""
) -> JobUser:
    """
    Choose the user of the next job; a runner that is not root has only its own.

    ``uids`` are those that the box has for jobs: with one, all jobs share it. ``taken`` are the owners that containers
    of this box have. With ``as_root`` it is uid 0 inside. ``before`` is the owner that an earlier try chose, if any,
    which is kept: what that try asked for may be there.

    Raises:
        RuntimeMissing: the engine cannot give it root without being root, or the runner cannot give it its workspace.
        Unavailable: all are taken.
    """
    base = _base_of(engine) if engine.remaps_users else None
    if as_root and base is None:
        raise RuntimeMissing(
            "root = true takes an engine where uid 0 of a container is another user outside: start dockerd with "
            "--userns-remap=default, or take root out of the queue's credential file"
        )
    if own_uid != 0:
        if base is not None:
            raise RuntimeMissing("the engine remaps users (userns-remap), and only root can hand workspaces to them")
        return JobUser(own_uid, own_uid)
    if as_root and base is not None:
        return JobUser(0, base)
    again = next((user for user in _candidates(uids, base) if str(user.owner) == before), None) if before else None
    free = (user for user in _candidates(uids, base) if len(uids) == 1 or str(user.owner) not in taken)
    chosen = again or next(free, None)
    if chosen is None:
        raise Unavailable(f"all {len(uids)} uids for jobs are taken; let some end, or configure more")
    return chosen


def _candidates(uids: tuple[int, ...], base: int | None) -> Iterator[JobUser]:
    for index, uid in enumerate(uids):
        inside = uid if base is None else FIRST_REMAPPED + index
        yield JobUser(inside, inside + (base or 0))


def _base_of(engine: Engineered) -> int:
    mapping = _MAPPING.search(engine.root)
    if mapping is None:
        raise RuntimeMissing(f"the engine remaps users, but its directory {engine.root} does not say to whom")
    return int(mapping[1])
