"""
What an image's name says: which registry, which repository there, which tag or digest. Pure.

``python``, ``docker.io/python`` and ``index.docker.io/library/python:latest`` are one and the same image.
"""

from __future__ import annotations

HUB = "docker.io"
"""The registry of names that begin with none."""
_HUB_SPELLINGS = frozenset({HUB, "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})
_OFFICIAL = "library/"


def registry_of(name: str) -> str:
    """Return the registry that an image's name means, with its port where it has one, in small letters."""
    host, found, _ = name.partition("/")
    return canonical_host(host) if found and _is_host(host) else HUB


def repository_of(name: str) -> str:
    """Return registry and path of an image's name, without tag and digest."""
    host, found, path = name.partition("/")
    path = path if found and _is_host(host) else name
    path = path.partition("@")[0]
    directory, slash, last = path.rpartition("/")
    path = f"{directory}{slash}{last.partition(':')[0]}"
    registry = registry_of(name)
    return f"{registry}/{_OFFICIAL if registry == HUB and '/' not in path else ''}{path}"


def whole_name(name: str) -> str:
    """Return the one spelling of an image's name; an id (``sha256:…``) stays as it is."""
    if name.startswith("sha256:"):
        return name
    digest = name.partition("@")[2]
    if digest:
        return f"{repository_of(name)}@{digest}"
    tag = name.rpartition("/")[2].partition(":")[2]
    return f"{repository_of(name)}:{tag or 'latest'}"


def canonical_host(host: str) -> str:
    """Return the one spelling of a registry's host; the port of https goes without saying."""
    host = host.lower().removesuffix(":443")
    return HUB if host in _HUB_SPELLINGS else host


def _is_host(part: str) -> bool:
    """Tell a registry from the first part of a path, as the engine does."""
    return "." in part or ":" in part or part == "localhost" or part != part.lower()
