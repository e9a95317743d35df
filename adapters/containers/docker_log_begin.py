"""
Whether a container's kept log still begins where it began: else bytes counted from its beginning mean nothing.

Somebody may have deleted or cut it off, and the engine itself begins anew where it holds more than its limit. Its first
entry has a time to the nanosecond, which is noted beside the container once it runs for a moment.
"""

from __future__ import annotations

import os

from adapters.containers.docker_engine import Engine
from adapters.containers.docker_log import first_entry
from adapters.files import explained

_NAME = ".log-begins"


async def log_begin(engine: Engine, container_id: str) -> str:
    """
    Return the time of a log's first entry; empty where it has none.

    Raises:
        LogUnreadable: the engine cannot read its own log.
        Unavailable: it did not answer.
    """
    query: dict[str, str | int] = {"stdout": 1, "stderr": 1, "details": 1, "timestamps": 1}
    head = b""
    async with (
        engine.call(f"find the beginning of the log of container {container_id}") as docker,
        engine.send(docker, "GET", f"containers/{container_id}/logs", **query) as answer,
    ):
        while (entry := first_entry(head)) is None:
            data = await answer.content.readany()
            if not data:
                return ""
            head += data
    return entry.split(b" ", 1)[0].decode(errors="replace")


def note_begin(directory: str, name: str, begin: str) -> None:
    """
    Note it in the container's own directory; blocks.

    Raises:
        OutOfSpace, Unavailable: it cannot be written.
    """
    path = os.path.join(directory, name, _NAME)
    with explained(f"note where the log of {name} begins", path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(begin)


def noted_begin(directory: str, name: str) -> str:
    """Return what was noted, empty where nothing was; blocks."""
    try:
        with open(os.path.join(directory, name, _NAME), encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""
