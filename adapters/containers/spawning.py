"""
Spawns a program through the C library, so that the rest of this process goes on meanwhile.

``os.posix_spawn`` holds the interpreter lock until the program is loaded, and so does a change of cores until the
thread has moved: together some milliseconds on a busy box, in which no lease is renewed and no log is read.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

# Of <spawn.h>, in glibc and musl.
_DEFAULT_SIGNALS, _SIGNAL_MASK, _OWN_SESSION = 0x04, 0x08, 0x80
# Both libraries need less than 400 bytes for the larger of their two structures.
_OPAQUE_BYTES = 1024
_SIGNAL_SET_BYTES = 128
_WORD_BITS = 64

_libc = ctypes.CDLL(None, use_errno=True)


def spawn(program: str, arguments: Sequence[str], environment: dict[str, str], descriptors: Sequence[int]) -> int:
    """
    Start a program in a session of its own, with no signal blocked or ignored, and return its pid.

    ``descriptors`` become its 0, 1, 2 and so on; each must be a number beyond those.

    Raises:
        OSError: the system refused.
    """
    pid = ctypes.c_int()
    variables = [f"{name}={value}" for name, value in environment.items()]
    with _actions(descriptors) as actions, _attributes() as attributes:
        path, words = os.fsencode(program), _strings(arguments)
        _check(_libc.posix_spawn(ctypes.byref(pid), path, actions, attributes, words, _strings(variables)), program)
    return pid.value


@contextmanager
def on_cores(cores: Sequence[int]) -> Iterator[None]:
    """Keep this thread, and what it starts, on these cores for a while; on any where that is refused."""
    before = os.sched_getaffinity(0)
    _move(cores)
    try:
        yield
    finally:
        _move(sorted(before))


def _move(cores: Sequence[int]) -> None:
    bits = sum(1 << core for core in cores)
    words = [bits >> at & (1 << _WORD_BITS) - 1 for at in range(0, bits.bit_length(), _WORD_BITS)]
    mask = (ctypes.c_uint64 * len(words))(*words)
    _libc.sched_setaffinity(0, ctypes.c_size_t(ctypes.sizeof(mask)), mask)


def _strings(texts: Sequence[str]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * (len(texts) + 1))(*map(os.fsencode, texts), None)


@contextmanager
def _actions(descriptors: Sequence[int]) -> Iterator[ctypes.Array[ctypes.c_char]]:
    actions = ctypes.create_string_buffer(_OPAQUE_BYTES)
    _check(_libc.posix_spawn_file_actions_init(actions), "spawn")
    try:
        for number, descriptor in enumerate(descriptors):
            _check(_libc.posix_spawn_file_actions_adddup2(actions, descriptor, number), "spawn")
        yield actions
    finally:
        _libc.posix_spawn_file_actions_destroy(actions)


@contextmanager
def _attributes() -> Iterator[ctypes.Array[ctypes.c_char]]:
    attributes = ctypes.create_string_buffer(_OPAQUE_BYTES)
    _check(_libc.posix_spawnattr_init(attributes), "spawn")
    try:
        flags = ctypes.c_short(_DEFAULT_SIGNALS | _SIGNAL_MASK | _OWN_SESSION)
        _check(_libc.posix_spawnattr_setflags(attributes, flags), "spawn")
        _check(_libc.posix_spawnattr_setsigmask(attributes, _signals(set())), "spawn")
        everything = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
        _check(_libc.posix_spawnattr_setsigdefault(attributes, _signals(everything)), "spawn")
        yield attributes
    finally:
        _libc.posix_spawnattr_destroy(attributes)


def _signals(numbers: set[signal.Signals]) -> ctypes.Array[ctypes.c_char]:
    found = ctypes.create_string_buffer(_SIGNAL_SET_BYTES)
    _libc.sigemptyset(found)
    for number in numbers:
        _libc.sigaddset(found, number)
    return found


def _check(number: int, about: str) -> None:
    """Raise what these functions return as an error's number."""
    if number:
        raise OSError(number, os.strerror(number), about)
