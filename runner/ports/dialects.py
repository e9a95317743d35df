"""Message formats."""

from __future__ import annotations

from typing import Protocol

import msgspec

from runner.job import Job
from runner.ports.results import LogLine
from runner.receipt import Event


class Decoded(msgspec.Struct, frozen=True):
    """
    What a message says.

    Where ``problem`` is set the job cannot run, and ``job`` holds the id alone if even that could be read. The problem
    names the field, what is wrong, and what to write.
    """

    job: Job
    problem: str = ""


class Dialect(Protocol):
    """One message format. Pure: no I/O, never raises on any bytes."""

    def decode(self, body: bytes) -> Decoded:
        """Read a message."""
        ...

    def encode(self, told: Event | LogLine) -> bytes | None:
        """Write an event or log record as this format's clients want it; None where they want nothing."""
        ...
