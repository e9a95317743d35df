"""
A directory of secrets: one file per name, as people, and Kubernetes where it mounts a Secret, lay them out.

The files belong to root or to the runner's user, and nobody else may read them. Every function blocks; no sentence here
holds a value.
"""

from __future__ import annotations

import os
import re
import shlex
import stat

from adapters.unusable import Unusable

VALUE_MAX_BYTES = 64 << 10
SECRET_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_FOREIGN_WRITE = stat.S_IWGRP | stat.S_IWOTH
_FOREIGN_READ = stat.S_IRWXO | stat.S_IWGRP
"""A group may read: Kubernetes gives a pod's group what its user is to read."""


def names_of(directory: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """
    Look at a directory of secrets: the names that can be used, sorted, and what is wrong with the others.

    Raises:
        Unusable: the directory cannot be used at all.
    """
    try:
        _check_directory(directory)
        found = sorted(name for name in os.listdir(directory) if SECRET_NAME.fullmatch(name))
    except OSError as error:
        raise Unusable(f"names {directory}, which cannot be read: {error.strerror}") from None
    except Unusable as error:
        raise Unusable(f"names {directory}, which {error}") from None
    problems = {name: _problem(directory, name) for name in found}
    return (
        tuple(name for name in found if not problems[name]),
        tuple(f"{name} {problem}" for name, problem in problems.items() if problem),
    )


def read_secret(directory: str, name: str) -> bytes:
    """
    Return the bytes of one secret.

    Raises:
        FileNotFoundError: there is none of this name.
        Unusable, OSError: it may not be used; says why.
    """
    if not SECRET_NAME.fullmatch(name):
        raise Unusable("can name no secret: use letters, digits and _.-")
    _check_directory(directory)
    path = os.path.join(directory, name)
    descriptor = os.open(path, _READ)
    with open(descriptor, "rb") as file:
        _check_file(os.fstat(descriptor), path)
        data = file.read(VALUE_MAX_BYTES + 1)
    if not data:
        raise Unusable("is empty")
    if len(data) > VALUE_MAX_BYTES:
        raise Unusable("is over 64 KiB, the most that a secret may have")
    return data


def _problem(directory: str, name: str) -> str:
    try:
        read_secret(directory, name)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except Unusable as error:
        return str(error)
    return ""


def _check_directory(directory: str) -> None:
    state = os.stat(directory)
    if not stat.S_ISDIR(state.st_mode):
        raise Unusable("is no directory")
    _check_owner(state)
    if state.st_mode & _FOREIGN_WRITE:
        raise Unusable(f"is open to other users ({_mode(state)}): chmod go-w {shlex.quote(directory)}")


def _check_file(state: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise Unusable("is no file")
    _check_owner(state)
    if state.st_mode & _FOREIGN_READ:
        closed = f"chmod go-w,o= {shlex.quote(path)}, or defaultMode: 0400 on its volume"
        raise Unusable(f"is open to other users ({_mode(state)}): {closed}")


def _check_owner(state: os.stat_result) -> None:
    if state.st_uid not in (0, os.geteuid()):
        raise Unusable(f"belongs to user {state.st_uid}: only what is root's or the runner's own is used")


def _mode(state: os.stat_result) -> str:
    return f"mode {stat.S_IMODE(state.st_mode):04o}"
