"""
Start services, run a command beside them, stop them: `python -m tests.services docker -- pytest tests/adapters`.

The command's exit code is passed on; 69 means that a service could not be started.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from tests.services import orphans
from tests.services.instances import started
from tests.services.service import ServiceError
from tests.services.table import SERVICES

EXIT_UNAVAILABLE = 69


def main(arguments: Sequence[str]) -> int:
    """Run the command with the services' variables in its environment, and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.services", description="Run a command beside private services."
    )
    parser.add_argument("services", nargs="+", choices=sorted(SERVICES))
    before, _, command = _split(arguments)
    wanted = parser.parse_args(before).services
    return orphans.kept(lambda _: _beside(wanted, command or [os.environ.get("SHELL", "sh")]))


def _beside(wanted: Sequence[str], command: Sequence[str]) -> int:
    with ExitStack() as stack:
        try:
            variables = {
                key: value for name in wanted for key, value in stack.enter_context(started(SERVICES[name])).items()
            }
        except ServiceError as error:
            print(error, file=sys.stderr)
            return EXIT_UNAVAILABLE
        return _run(command, variables)


def _split(arguments: Sequence[str]) -> tuple[list[str], str, list[str]]:
    if "--" not in arguments:
        return list(arguments), "", []
    at = arguments.index("--")
    return list(arguments[:at]), "--", list(arguments[at + 1 :])


def _run(command: Sequence[str], variables: Mapping[str, str]) -> int:
    for name, value in variables.items():
        print(f"{name}={value}", file=sys.stderr)
    return subprocess.run(command, env={**os.environ, **variables}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
