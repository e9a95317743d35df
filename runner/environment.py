"""
Variables that no job and no image may set: they change how programs load code, or which GPUs they see. Pure.

A job may do to its own processes what it likes; others inherit its environment before it is confined. NVIDIA's hook ran
with ``LD_PRELOAD=/proc/self/cwd/…`` of an image, as root of the box, in the image's root (CVE-2025-23266).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping

_TAKEN_PREFIXES = ("LD_", "NVIDIA_", "CUDA_MPS_", "RUNNER_", "TINI_", "BASH_FUNC_")
# Of glibc those that name files or code, which it hides from setuid programs; then what shells, Python and Go obey.
_TAKEN = frozenset({
    "CUDA_VISIBLE_DEVICES",
    "GCONV_PATH", "GETCONF_DIR", "GLIBC_TUNABLES", "HOSTALIASES", "LOCPATH", "MALLOC_TRACE", "NLSPATH",
    "RESOLV_HOST_CONF",
    "BASH_ENV", "BASHOPTS", "ENV", "GODEBUG", "PYTHONSTARTUP", "SHELLOPTS",
})  # fmt: skip
_KEPT_OF_AN_IMAGE = frozenset({"BASH_ENV", "ENV", "LD_LIBRARY_PATH"})
"""CUDA images set these, and their programs need the last one."""
_NEEDED_PREFIX = "NVIDIA_REQUIRE_"
"""What an image asks of the driver: all it can do is fail the start, in words that help."""
_PLAIN = re.compile(r"/[A-Za-z0-9._+/-]*")
# What others than root may write to on a box, what is not the same for every process, and what is the job's.
_UNSAFE = ("/proc", "/dev", "/sys", "/tmp", "/run", "/var", "/home", "/media", "/mnt", "/work")  # noqa: S108 - not used
_NAMED_AT_MOST = 10


def passed_on(env: Mapping[str, str]) -> dict[str, str]:
    """Return what a job's own environment keeps."""
    return {name: value for name, value in env.items() if not _is_taken(name)}


def taken_from(env: Iterable[str]) -> tuple[str, ...]:
    """Name what a job's own environment loses, sorted."""
    return tuple(sorted(filter(_is_taken, env)))


def taken_from_image(variables: Iterable[str]) -> tuple[str, ...]:
    """
    Name what an image's environment, of entries ``NAME=value``, loses, sorted.

    A search path stays where every entry is absolute, without ``..`` and in a place that only root writes to. A hook
    that inherits it runs before the container has its root for its own: an empty or relative entry, or one below
    ``/proc/self``, would mean the image's files there, ``/tmp`` anybody's. The others mean the box's own files, which
    the image does not write; only the job itself finds the image's behind them.
    """
    pairs = (variable.partition("=") for variable in variables)
    return tuple(sorted(name for name, _, value in pairs if _is_taken(name) and not _may_stay(name, value)))


def told(names: tuple[str, ...]) -> str:
    """Say in one line of a job's log what was taken from it."""
    more = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
    which = ", ".join(name[:64] for name in names[:_NAMED_AT_MOST])
    return f"not passed on of its env, since it changes how code is loaded or is the runner's to set: {which}{more}"


def _is_taken(name: str) -> bool:
    return name in _TAKEN or name.startswith(_TAKEN_PREFIXES)


def _may_stay(name: str, value: str) -> bool:
    if name.startswith(_NEEDED_PREFIX):
        return True
    return name in _KEPT_OF_AN_IMAGE and all(map(_is_safe, value.split(":")))


def _is_safe(path: str) -> bool:
    if not _PLAIN.fullmatch(path) or path.startswith("//"):
        return False
    if posixpath.normpath(path) != (path.rstrip("/") or "/"):
        return False
    return not any(path == place or path.startswith(f"{place}/") for place in _UNSAFE)
