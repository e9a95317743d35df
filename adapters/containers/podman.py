"""
Podman answers in Docker's words, and is told apart and refused.

Of 36 tests of the container suite five fail on 4.3, beside what it refuses outright: it has no log driver that a later
life reads on from a byte, and a job that ran out of memory looks like one that was killed.
"""

from __future__ import annotations

import msgspec

_PODMAN = "Podman Engine"


class Component(msgspec.Struct, frozen=True):
    """One program that an engine says it is made of."""

    name: str = msgspec.field(name="Name", default="")


def why_refused(components: tuple[Component, ...], url: str) -> str:
    """Say in one sentence why this engine is not used; empty where it may be."""
    if all(component.name != _PODMAN for component in components):
        return ""
    return (
        f"Podman answers at {url}, which keeps no log that can be read on from a byte and does not tell who ran out of "
        "memory: name a Docker engine with --docker-host, or give jobs no image"
    )
