"""The directory that a container sees as ``/run/runner``: it holds the deadline file. Every function blocks."""

from __future__ import annotations

import os
import shutil
import threading

from adapters.containers.docker_spec import DEADLINE_FILE
from adapters.files import explained

# Two that tell a container's deadline at once would meet in its new file.
_WRITING = threading.Lock()


def write_deadline(directory: str, name: str, deadline_at: float | None) -> str:
    """
    Write the deadline (epoch seconds; empty: none) and return the container's own directory.

    Raises:
        OutOfSpace, Unavailable: it cannot be written.
    """
    own = os.path.join(directory, name)
    new = os.path.join(own, f".{DEADLINE_FILE}")
    with _WRITING, explained(f"write the deadline of {name}", own):
        os.makedirs(own, exist_ok=True)
        os.chmod(own, 0o755)  # noqa: S103 - the job reads it
        with open(new, "w", encoding="ascii") as file:
            file.write("" if deadline_at is None else f"{deadline_at:.3f}\n")
        os.chmod(new, 0o644)
        os.replace(new, os.path.join(own, DEADLINE_FILE))
    return own


def change_deadline(directory: str, name: str, deadline_at: float) -> None:
    """Write another deadline for a container that is there; nothing for one that is forgotten."""
    if os.path.isdir(os.path.join(directory, name)):
        write_deadline(directory, name, deadline_at)


def forget(directory: str, name: str) -> None:
    """Delete the container's own directory; idempotent."""
    shutil.rmtree(os.path.join(directory, name), ignore_errors=True)
