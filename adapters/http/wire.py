"""
What goes over the control socket, and how its address is reached.

| request | answer |
| --- | --- |
| ``GET /health`` | ``Health`` |
| ``GET /sources`` · ``GET /gpus`` | the documents of ``runner sources`` and ``runner gpus`` |
| ``POST /jobs/{id}/cancel`` | ``Sentence``: which of the ways it took |
| ``POST /drain`` with ``StopWanted`` | ``Sentence`` |
| ``GET /metrics`` | what Prometheus reads |
| ``GET /jobs/{id}/log?follow=1`` | server-sent events, from behind ``Last-Event-ID`` on: ``adapters/http/events.py`` |

Every failure is a ``Failure``: 404 for what is not there, 400 for what cannot be used, 503 for what did not answer.
"""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Health(msgspec.Struct, frozen=True):
    """A runner that answers: its version and process id; whether it drains or leaves, and so takes up no job."""

    version: str
    pid: int
    drains: bool = False


class Sentence(msgspec.Struct, frozen=True):
    """What was done, for whoever asked."""

    sentence: str


class Failure(msgspec.Struct, frozen=True):
    """Why not; ``code`` is that of the error."""

    error: str
    code: str = "error"


class StopWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Drain with this grace in seconds (None: the configured one), or leave."""

    leave: bool = False
    grace_s: float | None = None


@contextmanager
def short_address(path: Path) -> Iterator[str]:
    """
    Give the address of a socket file in at most 107 bytes, however deep its directory lies.

    Raises:
        FileNotFoundError: the directory is not there.
    """
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def connected(path: Path, timeout_s: float) -> socket.socket:
    """
    Connect to a socket file; the caller closes it.

    Raises:
        OSError: nobody listens there.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    connection.settimeout(timeout_s)
    try:
        with short_address(path) as address:
            connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection
