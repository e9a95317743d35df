"""What a service is to the tests: where it comes from, how an instance is started, what tests are told."""

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ServiceError(Exception):
    """A service could not be had; the text says why and is shown as the reason for what was not run."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """
    One kind of service.

    `start` takes an empty directory and yields the variables that tests read. It is ready when the context is entered,
    and stopped when the context is left. It raises `ServiceError` when the
    instance does not come up. None: its programs are all that is wanted.

    `made` is what `start` makes when it is not there yet, from the package index, and leaves for later runs; None for
    services whose programs are all they need.
    """

    name: str
    purpose: str
    programs: tuple[str, ...]
    packages: tuple[str, ...]
    root_needed: bool
    start: Callable[[Path], AbstractContextManager[Mapping[str, str]]] | None
    made: Path | None = None

    def missing_programs(self) -> tuple[str, ...]:
        """Name the programs that are not installed, in the order of the table."""
        return tuple(program for program in self.programs if find_program(program) is None)

    def obstacle(self) -> str | None:
        """Say why this service cannot be started as things stand, or None."""
        missing = self.missing_programs()
        if missing:
            return f"not installed: {', '.join(missing)}"
        if self.root_needed and os.geteuid() != 0:
            return "needs root"
        return None


def find_program(name: str) -> str | None:
    """Find a program in PATH, or where the system keeps its daemons, which a user's PATH often lacks."""
    return shutil.which(name) or shutil.which(name, path=SYSTEM_PATH)
