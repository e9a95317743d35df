"""What a job is told of the box around it, so that it knows what to reach for; and system calls by their numbers."""

import ctypes
import errno
import os
import platform
from collections.abc import Callable, Mapping

World = Mapping[str, str]
"""Paths, pids and words of the box by what they are; ``tests/escape/box.py`` makes it."""
Program = Callable[[World], str]
"""
Tries one thing. Returns what it got, or nothing where it got nothing; an ``OSError`` says that it was refused.

What may not be tried at all, since it would reach beyond the box, raises :class:`NotTried`.
"""
PROGRAMS: dict[str, Program] = {}
MACHINES = ("x86_64", "aarch64")

_libc = ctypes.CDLL(None, use_errno=True)


class NotTriedError(Exception):
    """Trying it here would harm others, or this machine has no such thing."""


def probe(program: Program) -> Program:
    """Make a function known as a probe by its name."""
    PROGRAMS[program.__name__] = program
    return program


def call(numbers: tuple[int, int], *arguments: object) -> int:
    """Make a system call by its numbers on x86_64 and aarch64."""
    if platform.machine() not in MACHINES:
        raise NotTriedError(platform.machine())
    number = numbers[MACHINES.index(platform.machine())]
    words = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result = int(_libc.syscall(ctypes.c_long(number), *words))
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def permitted(numbers: tuple[int, int], *arguments: object, beyond: int = errno.EINVAL) -> str:
    """Make a call that cannot work; the error ``beyond`` shows that the check of rights was passed all the same."""
    try:
        return f"returned {call(numbers, *arguments)}"
    except OSError as error:
        if error.errno == beyond:
            return "its rights were not asked for"
        raise


def first_open(paths: list[str], flags: int = os.O_RDONLY) -> str:
    """Return the first path that opens; the error of the last where none does."""
    refusal = OSError(errno.ENOENT, "there is none")
    for path in paths:
        try:
            os.close(os.open(path, flags | os.O_NONBLOCK))
        except OSError as error:
            refusal = error
        else:
            return path
    raise refusal
