"""A directory of a user without privileges, and that user: root may do everything, so it shows nothing about modes."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

NOBODY = 65534
SOMEBODY = (
    "setpriv",
    f"--reuid={NOBODY}",
    f"--regid={NOBODY}",
    "--clear-groups",
    "--inh-caps=+dac_read_search",
    "--ambient-caps=+dac_read_search",
)
"""Runs a program as nobody, who may read every file, so that any interpreter can be run; jobs do not get that."""


@contextlib.contextmanager
def somebody() -> Iterator[None]:
    """Act without root's powers inside the block."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def write_bwrap(directory: Path) -> Path:
    """
    Write a ``bwrap`` that gives rights up and runs the real one, which refuses to work with some; return its directory.

    A user of tests has one right more than others, to read interpreters in directories of root's.
    """
    words = f"setpriv --inh-caps=-all --ambient-caps=-all {shutil.which('bwrap')}"
    (directory / "bwrap").write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    (directory / "bwrap").chmod(0o755)
    return directory


@contextlib.contextmanager
def owned_directory() -> Iterator[Path]:
    """Give a directory that such a user owns and reaches."""
    path = tempfile.mkdtemp(dir="/tmp", prefix="runner-test-")
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    try:
        yield Path(path)
    finally:
        shutil.rmtree(path)
