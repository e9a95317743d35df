"""
Which GPUs and cores fit this job? Pure functions over plain values; property-tested.

Nothing here knows time, queues or health; the inventory hands in what may be given out.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping

import msgspec

from runner.job import Job
from runner.records import GrantedGpu, Place

UNUSED = 1e-6
"""A core whose taken share is less is nobody's."""


class Request(msgspec.Struct, frozen=True):
    """
    What one job needs, with every default filled in: whole GPUs, a CPU share, bytes.

    ``pinned`` cores are shared with nobody; ``alone`` is one that nothing else may run beside.
    """

    gpus: int
    cpus: float
    memory: int
    disk: int
    pinned: bool = False
    alone: bool = False


class Room(msgspec.Struct, frozen=True):
    """What may be given out: GPUs by index, cores by number with the share that is taken of each, bytes."""

    gpus: tuple[GrantedGpu, ...]
    cores: Mapping[int, float]
    cpus: float
    memory: int
    disk: int


def request_of(job: Job, *, memory: int, disk: int, most: Room) -> Request:
    """
    Read a job's request; ``memory`` and ``disk`` stand in for what it does not name.

    One that is to be alone asks for all cores of ``most``, and for all the memory unless it names some.
    """
    asked, alone = job.resources, job.exclusive == "box"
    cpus = float(math.ceil(asked.cpus)) if job.exclusive == "gpu" else asked.cpus
    memory = most.memory if alone else memory
    return Request(
        gpus=int(asked.gpus),
        cpus=max(cpus, most.cpus) if alone else cpus,
        memory=memory if asked.memory is None else int(asked.memory),
        disk=disk if asked.disk is None else int(asked.disk),
        pinned=job.exclusive == "gpu",
        alone=alone,
    )


def without_cores(room: Room, cores: Collection[int]) -> Room:
    """Return a room without some cores, and without what is not taken yet of those."""
    left = {core: load for core, load in room.cores.items() if core not in cores}
    unused = sum(1 - load for core, load in room.cores.items() if core in cores)
    return msgspec.structs.replace(room, cores=left, cpus=room.cpus - unused)


def without_idlest(room: Room, count: int) -> Room:
    """Return a room without so many of its least used cores: as jobs end there, they become somebody's own."""
    by_load = sorted(room.cores, key=lambda core: (room.cores[core], core))
    return msgspec.structs.replace(room, cores={core: room.cores[core] for core in by_load[count:]})


def shortage(request: Request, room: Room, *, have: str) -> str:
    """
    Say in words what is missing, or "" where it fits: ``needs 2 GPUs, 1 is free``. ``have``: ``free`` or ``here``.
    """
    if request.gpus > len(room.gpus):
        return f"needs {_count(request.gpus, 'GPU')}, {_is(len(room.gpus), have)}"
    if request.cpus > room.cpus + 1e-9:
        return f"needs {_count(request.cpus, 'core')}, {_is(round(room.cpus, 2), have)}"
    unused = sum(load < UNUSED for load in room.cores.values())
    if request.pinned and request.cpus > unused:
        return f"needs {_count(request.cpus, 'core')} of its own, {_is(unused, have)}"
    if request.memory > room.memory:
        return f"needs {_mib(request.memory)} of memory, {_mib(room.memory)} is {have}"
    if request.disk > room.disk:
        return f"needs {_mib(request.disk)} of disk, {_mib(room.disk)} is {have}"
    return ""


def choose(request: Request, room: Room) -> Place | None:
    """
    Choose a place, or None where it does not fit: the lowest free GPUs, the least used cores.

    Returns GPUs sorted by index and cores sorted by number; a share below one core still names one.
    """
    if shortage(request, room, have="free"):
        return None
    wanted = max(1, round(request.cpus + 0.499999))
    by_load = sorted(room.cores, key=lambda core: (room.cores[core], core))
    return Place(
        gpus=tuple(sorted(room.gpus, key=lambda gpu: gpu.index)[: request.gpus]),
        cores=tuple(sorted(by_load[:wanted])),
        cpus=request.cpus,
        memory=request.memory,
        disk=request.disk,
    )


def remaining(total: Room, taken: Iterable[Place]) -> Room:
    """Subtract places from a room. What a place holds that the room does not have (a lost GPU) counts for nothing."""
    places = tuple(taken)
    held = {gpu.uuid for place in places for gpu in place.gpus}
    load = dict(total.cores)
    for place in places:
        for core in place.cores:
            load[core] = load.get(core, 0.0) + place.cpus / len(place.cores)
    return Room(
        gpus=tuple(gpu for gpu in total.gpus if gpu.uuid not in held),
        cores={core: load[core] for core in total.cores},
        cpus=total.cpus - sum(place.cpus for place in places),
        memory=total.memory - sum(place.memory for place in places),
        disk=total.disk - sum(place.disk for place in places),
    )


def dominant_share(place: Place, total: Room) -> float:
    """Return a place's share of a box that it shares: of its GPUs where it holds any, else of its cores."""
    if place.gpus and total.gpus:
        return len(place.gpus) / len(total.gpus)
    return place.cpus / total.cpus if total.cpus else 0.0


def request_share(request: Request, total: Room) -> float:
    """Return the share of the box that a place for a request would hold."""
    if request.alone:
        return 1.0
    gpus = request.gpus / len(total.gpus) if request.gpus and total.gpus else 0.0
    return gpus or (request.cpus / total.cpus if total.cpus else 0.0)


def _count(number: float, what: str) -> str:
    return f"{number:g} {what}" if number == 1 else f"{number:g} {what}s"


def _is(number: float, have: str) -> str:
    return f"{number:g} is {have}" if number == 1 else f"{number:g} are {have}"


def _mib(size: int) -> str:
    return f"{max(0, size) >> 20} MiB"
