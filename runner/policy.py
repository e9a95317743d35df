"""
What a job may ask for beyond the sealed default: what the box and its queue's file name, and nothing else. Pure.

``runner.toml`` speaks for every queue of the box, a credential file for its own; a job has what either allows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

import msgspec

from runner.config import Config
from runner.credential import Rights
from runner.job import Job

CAPABILITY = re.compile(r"CAP_[A-Z][A-Z_]*")
NETWORK = re.compile(r"[a-z0-9][a-z0-9-]{0,19}")
"""A network's name stands in that of its bridge."""
ALONE = "none"
"""The network of a job that has none."""


def widened(rights: Rights, config: Config) -> Rights:
    """Return what a queue's jobs may reach on this box: its file's rights with the box's own."""
    return msgspec.structs.replace(
        rights,
        network=_union(rights.network, config.network),
        capabilities=_union(rights.capabilities, config.capabilities),
        mounts=_union(rights.mounts, config.mounts),
        seccomp=rights.seccomp or config.seccomp,
        oci_runtime=rights.oci_runtime or config.oci_runtime,
    )


def _union(ours: tuple[str, ...], theirs: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*ours, *theirs)))


def problem_with(job: Job, rights: Rights, *, runtime: str, source: str) -> str:
    """
    Say which rule forbids a job, and what would allow it; "" where it keeps within them.

    ``runtime`` is what it would run in, ``source`` the credential file that speaks for its queue.
    """
    return next(_problems(job, rights, runtime, source), "")


def _problems(job: Job, rights: Rights, runtime: str, source: str) -> Iterator[str]:
    asked = {"network": (job.network,) if job.network != ALONE else (), "capabilities": job.capabilities}
    for rule, names in (asked | {"mounts": job.mounts}).items():
        if names and runtime == "process":
            yield f"{rule}: only containers get any: name an image, or leave {rule} out"
        yield from _not_named(rule, names, getattr(rights, rule), source)
    yield from _not_named("secrets", job.secrets, rights.secrets, source)
    if runtime == "container" and job.build is None and not is_listed(job.image, rights.images):
        yield f"image {job.image}: not one of the images that {source} allows: {', '.join(rights.images)}"
    if job.build is not None and job.build.push and not job.build.push.startswith(rights.push or "\0"):
        yield f'build.push {job.build.push}: not allowed: write push = ["{job.build.push}"] into {source}'


def _not_named(rule: str, names: tuple[str, ...], allowed: tuple[str, ...], source: str) -> Iterator[str]:
    for name in names:
        if name not in allowed:
            where = source if rule == "secrets" else f"{source} or runner.toml"
            yield f'{rule}: {name} is not allowed to jobs of this queue: write {rule} = ["{name}"] into {where}'


def is_listed(image: str, patterns: tuple[str, ...]) -> bool:
    """Tell whether an image matches a pattern of the list (``*`` and ``?`` stand for anything); no list allows all."""
    return not patterns or any(fnmatchcase(image, pattern) for pattern in patterns)
