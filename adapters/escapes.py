"""
Known ways out of a container: which versions of docker, containerd, runc and NVIDIA's toolkit are open to each. Pure.

Each row names its advisory: of the program's own project, GHSA-…; of NVIDIA, the number of its bulletin. ``ranges`` are
versions of the program itself, from the first that has the fault to the first without; a branch that got no release of
its own lies in the range before. ``packages`` are the first versions of distributions with the fix under an old number,
from their changelogs and notices (DSA-5615, USN-6619, USN-7374). What neither tells is not known, and said so: never
that it is open. CVE-2022-0811 is of CRI-O, which no engine here uses; CVE-2026-41579 does not reach through Docker.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from adapters.versions import compare, is_version, program, revision, series, upstream

Verdict = Literal["fixed", "vulnerable", "cannot tell"]
_OWN_REVISION = re.compile(r"\d+(\+b\d+)?")
"""Of a Debian package as it was first made, or only built again."""


class Part(msgspec.Struct, frozen=True):
    """
    One program on this box, ``docker``, ``containerd``, ``runc`` or ``nvidia-container-toolkit``, and its version.

    ``of``: ``project``: built by the project itself; ``distribution``: by a distribution; ``nobody knows``.
    """

    name: str
    version: str
    of: Literal["project", "distribution", "nobody knows"]


class Escape(msgspec.Struct, frozen=True):
    """One fault: what it lets a container or an image do, and who has it."""

    cve: str
    part: str
    advisory: str
    about: str
    ranges: tuple[tuple[str, str], ...]
    packages: tuple[str, ...] = ()

    @property
    def fixed_in(self) -> str:
        """Name the program's versions that have the fix."""
        return " or ".join(end for _, end in self.ranges)


_PROCFS = (("0", "1.2.8"), ("1.3", "1.3.3"), ("1.4", "1.4.0~rc3"))

ESCAPES = (
    Escape("CVE-2019-5736", "runc", "GHSA-gxmr-w5mj-v8hh", "a container overwrites runc itself", (("0", "1.0.0~rc7"),)),
    Escape(
        "CVE-2021-30465",
        "runc",
        "GHSA-c3xm-pvg7-gh7r",
        "a link that changes while it is mounted leads out of the container",
        (("0", "1.0.0~rc95"),),
        ("1.0.0~rc94+ds1-2",),
    ),
    Escape(
        "CVE-2024-21626",
        "runc",
        "GHSA-xr7r-f8xq-vfvv",
        "an image's working directory is one of the box",
        (("1.0.0~rc93", "1.1.12"),),
        (
            "1.1.5+ds1-1+deb12u1",
            "1.0.0~rc93+ds1-5+deb11u3",
            "1.1.7-0ubuntu1~22.04.2",
            "1.1.7-0ubuntu1~20.04.2",
        ),
    ),
    Escape(
        "CVE-2025-31133", "runc", "GHSA-9493-h29p-rfm2", "an image's /dev/null lets it write to the kernel", _PROCFS
    ),
    Escape("CVE-2025-52565", "runc", "GHSA-qw9x-cqr3-wc7r", "an image's /dev/pts lets it write to the kernel", _PROCFS),
    Escape("CVE-2025-52881", "runc", "GHSA-cgrx-mc8f-2prm", "an image sends runc's own writes elsewhere", _PROCFS),
    Escape(
        "CVE-2022-23648",
        "containerd",
        "GHSA-crp2-qrr5-8pq7",
        "an image's volumes show files of the box (under Kubernetes)",
        (("0", "1.4.13"), ("1.5", "1.5.10"), ("1.6", "1.6.1")),
    ),
    Escape(
        "CVE-2024-40635",
        "containerd",
        "GHSA-265r-hfxg-fhmg",
        "an image's user beyond 32 bits is root",
        (("0", "1.6.38"), ("1.7", "1.7.27"), ("2.0", "2.0.4")),
        (
            "1.6.20~ds1-1+deb12u2",
            "1.7.24-0ubuntu1~24.04.2",
            "1.7.24-0ubuntu1~22.04.2",
            "1.7.24-0ubuntu1~20.04.2",
        ),
    ),
    Escape(
        "CVE-2024-41110",
        "docker",
        "GHSA-v23v-6jw2-98fq",
        "requests pass by the engine's authorization plugins",
        (("19.03", "23.0.15"), ("24.0", "25.0.6"), ("26.0", "26.1.5"), ("27.0", "27.1.1")),
        ("20.10.24+dfsg1-1+deb12u1",),
    ),
    Escape(
        "CVE-2024-0132",
        "nvidia-container-toolkit",
        "NVIDIA 5582",
        "an image mounts files of the box",
        (("0", "1.16.2"),),
    ),
    Escape(
        "CVE-2025-23359",
        "nvidia-container-toolkit",
        "NVIDIA 5616",
        "the same again, past the fix of CVE-2024-0132",
        (("0", "1.17.4"),),
    ),
    Escape(
        "CVE-2025-23266",
        "nvidia-container-toolkit",
        "NVIDIA 5659",
        "an image's LD_PRELOAD runs as root of the box",
        (("0", "1.17.8"),),
    ),
    Escape(
        "CVE-2025-23267",
        "nvidia-container-toolkit",
        "NVIDIA 5659",
        "links in an image lead the hook to files of the box",
        (("0", "1.17.8"),),
    ),
    Escape(
        "CVE-2026-24260",
        "nvidia-container-toolkit",
        "NVIDIA 5850",
        "files change between the hook's look and its use of them",
        (("0", "1.19.1"),),
    ),
)


def verdict(escape: Escape, part: Part) -> Verdict:
    """Tell what is known of one fault in one program."""
    if not is_version(part.version):
        return "cannot tell"
    if not _is_in_range(escape, part.version):
        return "fixed"
    if part.of == "project":
        return "vulnerable"
    for known in escape.packages if part.of == "distribution" else ():
        told = _by_package(known, part.version)
        if told != "cannot tell":
            return told
    return "cannot tell"


def _is_in_range(escape: Escape, version: str) -> bool:
    own = program(version)
    return any(compare(begin, own) <= 0 and compare(own, end) < 0 for begin, end in escape.ranges)


def _by_package(known: str, version: str) -> Verdict:
    """
    Compare with the version in which a distribution fixed it: only one for the same release goes up in step with it.

    One that names no release is its first one, if all that it is built of is the same.
    """
    if series(known) != series(version):
        first = not series(version) and upstream(known) == upstream(version)
        older = first and _OWN_REVISION.fullmatch(revision(version)) is not None and compare(version, known) < 0
        return "vulnerable" if older else "cannot tell"
    if not series(known) and (upstream(known) != upstream(version) or not _OWN_REVISION.fullmatch(revision(version))):
        return "cannot tell"
    return "vulnerable" if compare(version, known) < 0 else "fixed"
