"""
The few system calls that Python does not have, through the C library.

They act on the calling thread alone; every one raises ``OSError`` with its own errno.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct

CLONE_FS = 0x200
CLONE_NEWNS = 0x20000
CLONE_NEWIPC = 0x8000000
CLONE_NEWNET = 0x40000000

MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REC = 0x4000
MS_SLAVE = 0x80000

_MOUNT_ATTR_RDONLY = 0x1
# The same numbers on every architecture.
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_MOUNT_SETATTR = 442
_OPEN_TREE_CLONE = 0x1
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_AT_RECURSIVE = 0x8000
_AT_FDCWD = -100

_TMPFS, _RAMFS = 0x01021994, 0x858458F6
_STATFS_BYTES = 256  # of 120 on most architectures, where its first word is the type

_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
_INSTRUCTION_BYTES = 8
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Give the calling thread, and what it starts, its own copy of the named things."""
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """Attach a file system, or a part of one, to the tree."""
    arguments = (os.fsencode(source), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), data.encode())
    _check(_libc.mount(*arguments), target)


def clone_tree(path: str) -> int:
    """Return an open, detached copy of what is mounted at a path and below, which need be no mount itself."""
    flags = _OPEN_TREE_CLONE | _AT_RECURSIVE | os.O_CLOEXEC
    return _check(_libc.syscall(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(path), flags), path)


def attach_tree(tree: int, target: str) -> None:
    """Mount a detached copy on a path."""
    flags = _MOVE_MOUNT_F_EMPTY_PATH
    _check(_libc.syscall(_SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(target), flags), target)


def set_read_only(path: str) -> None:
    """Make a mount and everything mounted below it refuse writes. Needs Linux 5.12."""
    attributes = struct.pack("=QQQQ", _MOUNT_ATTR_RDONLY, 0, 0, 0)
    arguments = (_AT_FDCWD, os.fsencode(path), _AT_RECURSIVE, attributes, len(attributes))
    _check(_libc.syscall(_SYS_MOUNT_SETATTR, *arguments), path)


def bring_up_loopback() -> None:
    """Switch on the loopback interface of the calling thread's network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH22x", b"lo", 0)
        (flags,) = struct.unpack_from("H", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request), 16)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags | _IFF_UP))


def set_dumpable(*, dumpable: bool) -> None:
    """Set whether others of the same user may read this process: its memory, environment and open files."""
    _check(_libc.prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(dumpable), 0, 0, 0), "prctl")


def is_in_memory(path: str) -> bool:
    """Tell whether a path stands on a file system that has no disk."""
    found = ctypes.create_string_buffer(_STATFS_BYTES)
    _check(_libc.statfs(os.fsencode(path), found), path)
    return struct.unpack_from("=I", found)[0] in (_TMPFS, _RAMFS)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def filter_calls(program: bytes) -> None:
    """Have the kernel run a filter before each system call of the calling thread and what it starts, for good."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0), "prctl")
    whole = _Program(len(program) // _INSTRUCTION_BYTES, program)
    _check(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(whole), 0, 0), "prctl")


def _check(result: int, about: str) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), about)
    return result
