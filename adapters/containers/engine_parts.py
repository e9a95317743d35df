"""
Which programs make containers on this box, and which versions: asked of the engine, the package database, the toolkit.

An engine tells numbers that its distribution may have kept over a fix; the package has the exact version. Blocks, for a
limited time in all; changes nothing.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping

import msgspec

from adapters.containers.docker_look import look
from adapters.escapes import Part
from adapters.versions import is_plain, program

LIMIT_S = 3.0
TOOLKIT = "nvidia-container-toolkit"
# Packages of distributions; those of the projects themselves have other names.
_PACKAGES = {
    "docker": ("docker.io", "moby-engine", "docker"),
    "containerd": ("containerd", "containerd-app", "moby-containerd"),
    "runc": ("runc", "runc-app", "moby-runc"),
}
_COMPONENTS = {"docker": "Engine", "containerd": "containerd", "runc": "runc"}
_PACKAGED = re.compile(r"\d[\w.+~]*-[\w.+~]+")
_TOOLKIT_VERSION = re.compile(r"version:? v?(\d+\.\d+\.\d+\S*)")
Run = Callable[[tuple[str, ...]], str]
"""Run a program and return what it printed, "" where it is not there or fails."""


class Component(msgspec.Struct, frozen=True):
    """One program as the engine names it; Debian's builds tell their package's version as the commit."""

    name: str = msgspec.field(name="Name")
    version: str = msgspec.field(name="Version", default="")
    details: dict[str, str] = msgspec.field(name="Details", default_factory=dict)


class EngineVersion(msgspec.Struct, frozen=True):
    """What the engine tells of itself and of what it uses."""

    components: tuple[Component, ...] = msgspec.field(name="Components", default=())


def parts(docker_host: str, limit_s: float = LIMIT_S) -> tuple[Part, ...]:
    """
    Return the programs that are here; NVIDIA's toolkit only where it is installed.

    Raises:
        Unavailable: the engine does not answer.
    """
    ends_at = time.monotonic() + limit_s
    told = look(docker_host, "/version", EngineVersion, limit_s)
    if not docker_host.startswith("unix://"):
        return parts_of(told, None)
    return parts_of(told, lambda command: _run(command, ends_at - time.monotonic()))


def parts_of(told: EngineVersion, run: Run | None) -> tuple[Part, ...]:
    """Return what an engine tells of, with the exact versions where programs of its machine can be run."""
    packages = _packages(run) if run else {}
    named = {component.name: component for component in told.components}
    pairs = ((name, named[title]) for name, title in _COMPONENTS.items() if title in named)
    found = tuple(_part(name, component, packages, is_local=run is not None) for name, component in pairs)
    toolkit = _toolkit(run, packages) if run else None
    return (*found, toolkit) if toolkit is not None else found


def _part(name: str, told: Component, packages: Mapping[str, str], *, is_local: bool) -> Part:
    installed = (packages[package] for package in _PACKAGES[name] if package in packages)
    package = next((version for version in installed if program(version) == program(told.version)), "")
    commit = told.details.get("GitCommit", "")
    if _PACKAGED.fullmatch(commit) and program(commit) == program(told.version):
        return Part(name, commit, "distribution")
    if package:
        return Part(name, package, "distribution")
    if not is_plain(told.version):
        return Part(name, told.version, "distribution")
    return Part(name, told.version, "project" if is_local else "nobody knows")


def _toolkit(run: Run, packages: Mapping[str, str]) -> Part | None:
    """NVIDIA's own packages count their builds; a distribution's have more in their revision."""
    if version := packages.get(TOOLKIT, ""):
        return Part(TOOLKIT, version, "project" if re.fullmatch(r"[^-]+-\d+", version) else "distribution")
    for command in (("nvidia-ctk", "--version"), ("nvidia-container-cli", "--version")):
        if found := _TOOLKIT_VERSION.search(run(command)):
            return Part(TOOLKIT, found[1], "project")
    return None


def _packages(run: Run) -> dict[str, str]:
    """Return the versions of the packages that are installed, by name."""
    names = (*(package for packages in _PACKAGES.values() for package in packages), TOOLKIT)
    dpkg = run(("dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Version}\n", *names))
    rpm = run(("rpm", "-q", "--qf", "installed %{NAME} %{VERSION}-%{RELEASE}\n", *names))
    words = [line.split() for line in (*dpkg.splitlines(), *rpm.splitlines())]
    return {line[1]: line[2] for line in words if len(line) == 3 and line[0] == "installed"}  # noqa: PLR2004 - as asked


def _run(command: tuple[str, ...], limit_s: float) -> str:
    path = shutil.which(command[0])
    if path is None or limit_s <= 0:
        return ""
    try:
        return subprocess.run(
            [path, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=limit_s,
            check=False,
            text=True,
            errors="replace",
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
