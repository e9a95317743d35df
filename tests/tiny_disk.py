"""A disk of two megabytes, to be filled by tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

TINY_BYTES = 2 << 20


@contextmanager
def tiny_disk(at: Path, *options: str) -> Iterator[Path]:
    """Mount a small file system in memory on a directory; skips the test where that is not allowed."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small disk")
    at.mkdir()
    settings = ",".join((f"size={TINY_BYTES}", "nr_inodes=200", *options))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", settings, "tiny", str(at)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.decode().strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


def free_bytes(disk: Path) -> int:
    """Return the room that is left."""
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize
