"""Copies and hashes files block by block, sharing blocks with the original where the file system can."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os

from adapters.files import write_all
from adapters.interruptible import Stop

BLOCK_BYTES = 1 << 20
_CLONE = 0x40049409
"""FICLONE of <linux/fs.h>."""
_NOT_HERE = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM, errno.EIO})
"""The kernel cannot copy between these two by itself; plain reading and writing then says what is really wrong."""


def copy(source: int, target: int, stop: Stop) -> None:
    """Copy an open file from its start into an open empty one."""
    if clone(source, target):
        return
    while _copy_block(source, target):
        stop.check()


def copy_hashed(source: int, target: int, stop: Stop) -> tuple[int, str]:
    """Copy a file from its start into an empty one open for reading too; return its bytes and ``sha256:…``."""
    if clone(source, target):
        return hash_file(target, stop)
    hashed, size = hashlib.sha256(), 0
    while block := os.pread(source, BLOCK_BYTES, size):
        stop.check()
        hashed.update(block)
        write_all(target, block)
        size += len(block)
    return size, f"sha256:{hashed.hexdigest()}"


def hash_file(fd: int, stop: Stop) -> tuple[int, str]:
    """Return the bytes of an open file and ``sha256:…``."""
    hashed, size = hashlib.sha256(), 0
    while block := os.pread(fd, BLOCK_BYTES, size):
        stop.check()
        hashed.update(block)
        size += len(block)
    return size, f"sha256:{hashed.hexdigest()}"


def clone(source: int, target: int) -> bool:
    """Let an empty file share the blocks of another; False where the file system cannot."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(target, _CLONE, source)
        return True
    return False


def _copy_block(source: int, target: int) -> int:
    try:
        return os.copy_file_range(source, target, BLOCK_BYTES * 64)
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
    block = os.read(source, BLOCK_BYTES)
    write_all(target, block)
    return len(block)
