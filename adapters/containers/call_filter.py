"""
The system calls that no process job gets: a filter that the kernel runs before each, for the job and all it starts.

Denied is what changes the box, reaches into other processes' kernel objects, or has been the way out of containers
before; most of it needs privileges that jobs lack anyway. Anything else is left to the kernel's own checks. Counting
events (``perf_event_open``) stays as the box's ``perf_event_paranoid`` has it, since jobs measure themselves.

A denied call fails with EPERM, ``clone3``, whose flags a filter cannot read, with ENOSYS: the C library then uses
``clone``. Programs of another architecture, 32-bit ones too, die of SIGSYS: their calls have other numbers.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Iterator
from types import MappingProxyType

import msgspec

DENIED = MappingProxyType(
    {
        "acct": (163, 89),
        "add_key": (248, 217),
        "bpf": (321, 280),
        "chroot": (161, 51),
        "clock_adjtime": (305, 266),
        "clock_settime": (227, 112),
        "delete_module": (176, 106),
        "fanotify_init": (300, 262),
        "finit_module": (313, 273),
        "fsconfig": (431, 431),
        "fsmount": (432, 432),
        "fsopen": (430, 430),
        "fspick": (433, 433),
        "init_module": (175, 105),
        "io_uring_enter": (426, 426),
        "io_uring_register": (427, 427),
        "io_uring_setup": (425, 425),
        "kexec_file_load": (320, 294),
        "kexec_load": (246, 104),
        "keyctl": (250, 219),
        "mount": (165, 40),
        "mount_setattr": (442, 442),
        "move_mount": (429, 429),
        "open_by_handle_at": (304, 265),
        "open_tree": (428, 428),
        "pivot_root": (155, 41),
        "quotactl": (179, 60),
        "quotactl_fd": (443, 443),
        "reboot": (169, 142),
        "request_key": (249, 218),
        "setdomainname": (171, 162),
        "sethostname": (170, 161),
        "setns": (308, 268),
        "settimeofday": (164, 170),
        "swapoff": (168, 225),
        "swapon": (167, 224),
        "syslog": (103, 116),
        "umount2": (166, 39),
        "unshare": (272, 97),
        "userfaultfd": (323, 282),
    }
)
"""Their numbers on x86_64 and aarch64."""


class _Machine(msgspec.Struct, frozen=True):
    """An architecture: what the kernel calls it, which number of a pair is its own, and of the calls looked into."""

    audit: int
    column: int
    clone: int
    clone3: int
    socket: int


_MACHINES = {
    "x86_64": _Machine(audit=0xC000003E, column=0, clone=56, clone3=435, socket=41),
    "aarch64": _Machine(audit=0xC00000B7, column=1, clone=220, clone3=435, socket=198),
}
# Mount, cgroup, UTS, IPC, user, PID and network namespaces.
_NEW_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
_AF_VSOCK = 40  # reaches the host of a virtual machine, whatever network a job has
_FIRST_OF_X32 = 0x40000000

# Of <linux/bpf_common.h> and <linux/seccomp.h>.
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_ALLOW, _KILL, _FAIL = 0x7FFF0000, 0x80000000, 0x00050000


def filter_program(machine: str = "") -> bytes:
    """Return the filter for this machine, or a named one, as the kernel takes it; empty where there is none for it."""
    known = _MACHINES.get(machine or platform.machine())
    return b"".join(_instructions(known)) if known else b""


def _instructions(machine: _Machine) -> Iterator[bytes]:
    yield from (_step(_LOAD, _ARCHITECTURE_AT), *_unless(_EQUAL, machine.audit, _KILL))
    yield from (_step(_LOAD, _NUMBER_AT), *_when(_AT_LEAST, _FIRST_OF_X32, _FAIL | errno.ENOSYS))
    for numbers in DENIED.values():
        yield from _when(_EQUAL, numbers[machine.column], _FAIL | errno.EPERM)
    yield from _when(_EQUAL, machine.clone3, _FAIL | errno.ENOSYS)
    yield from _looked_into(machine.clone, _ANY_BIT, _NEW_NAMESPACES)
    yield from _looked_into(machine.socket, _EQUAL, _AF_VSOCK)
    yield _step(_RETURN, _ALLOW)


def _looked_into(call: int, test: int, value: int) -> Iterator[bytes]:
    """Deny a call when its first argument, whose lower half is what counts, meets a test."""
    yield _step(_EQUAL, call, otherwise=4)
    yield from (_step(_LOAD, _FIRST_ARGUMENT_AT), *_when(test, value, _FAIL | errno.EPERM))
    yield _step(_RETURN, _ALLOW)


def _when(test: int, value: int, verdict: int) -> tuple[bytes, bytes]:
    return _step(test, value, otherwise=1), _step(_RETURN, verdict)


def _unless(test: int, value: int, verdict: int) -> tuple[bytes, bytes]:
    return _step(test, value, then=1), _step(_RETURN, verdict)


def _step(code: int, value: int, *, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, then, otherwise, value)
