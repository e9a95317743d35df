"""
What a job may ask for beyond the sealed default: what the box and its queue's file name, and nothing else. Pure.

``runner.toml`` speaks for every queue of the box, a credential file for its own; a job has what either allows.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

import msgspec

from runner.config import Config
from runner.credential import Rights
from runner.job import Job
from runner.loosening import misworded

OWN_QUEUE = "(own queue)"
"""What stands for the credential file of the box's own queue, which has none."""
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
    wanted = job.build.push if job.build is not None else ""
    if wanted and not any(_begins(wanted, beginning) for beginning in rights.push):
        yield f"build.push {wanted} is not allowed to jobs of this queue: {_in_file('push', wanted, source)}"


def _begins(name: str, beginning: str) -> bool:
    """Tell whether an image's name begins so in whole parts: ``host`` begins neither ``host.other`` nor ``host:1``."""
    follows = "/:@" if "/" in beginning else "/"
    return name.startswith(beginning) and (beginning.endswith("/") or name[len(beginning) :][:1] in ("", *follows))


def _not_named(rule: str, names: tuple[str, ...], allowed: tuple[str, ...], source: str) -> Iterator[str]:
    for name in names:
        if name not in allowed:
            yield f"{rule}: {name} is not allowed to jobs of this queue: {_to_allow(rule, name, source)}"


def _to_allow(rule: str, name: str, source: str) -> str:
    """Say what to write where; the box's own queue has no file that could say it."""
    if rule == "secrets":
        return _in_file(rule, name, source)
    where = f"{source} or runner.toml" if source != OWN_QUEUE else "runner.toml"
    return misworded(rule, name) or _line(rule, name, where)


def _in_file(rule: str, name: str, source: str) -> str:
    if source == OWN_QUEUE:
        return f'put it into a queue whose credential file says {rule} = ["{name}"]'
    return _line(rule, name, source)


def _line(rule: str, name: str, where: str) -> str:
    return f'write {rule} = ["{name}"] into {where}'


def is_listed(image: str, patterns: tuple[str, ...]) -> bool:
    """Tell whether an image matches a pattern of the list (``*`` and ``?`` stand for anything); no list allows all."""
    return not patterns or any(fnmatchcase(image, pattern) for pattern in patterns)
