"""
What a process job is told: its environment, built from nothing, and the few lines of ``sh`` that begin its command.

Also finds the command before anything starts, so that a wrong name is an answer and not an exit code. Pure but for
looking at files.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Callable

import msgspec

from adapters.containers.secret_shelf import SECRETS_VARIABLE
from adapters.containers.steps import script
from runner.errors import BadInput
from runner.ports import ContainerSpec

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEADLINE_VARIABLE = "RUNNER_DEADLINE_FILE"
OPEN_FILES = 65_536
PROCESSES = 8_192
_ARGUMENT_MAX_BYTES = 131_071  # MAX_ARG_STRLEN: the kernel takes no longer string
_SHELL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Variables that a shell computes with; exported there, some would be refused or read as something else.
_SHELL_OWN = frozenset({"ENV", "IFS", "LINENO", "OPTARG", "OPTIND", "PPID", "PS1", "PS2", "PS4", "PWD", "OLDPWD", "_"})


class Rlimits(msgspec.Struct, frozen=True):
    """Limits of each process: bytes of a file and of address space, number of processes of the user; 0 is none."""

    file_bytes: int = 0
    address_bytes: int = 0
    processes: int = 0


def environment(spec: ContainerSpec, *, temporary: str, deadline: str, secrets: str) -> dict[str, str]:
    """Return the job's whole environment, but for the secrets themselves, which stand below ``secrets``."""
    return {
        "PATH": SYSTEM_PATH,
        "HOME": os.path.realpath(spec.workspace),
        "TMPDIR": temporary,
        **spec.env,
        "CUDA_VISIBLE_DEVICES": ",".join(gpu.uuid for gpu in spec.grant.here.gpus),
        "RUNNER_ATTEMPT": str(spec.attempt),
        DEADLINE_VARIABLE: deadline,
        **({SECRETS_VARIABLE: secrets} if secrets else {}),
    }


def run_script(spec: ContainerSpec, variables: dict[str, str], rlimits: Rlimits) -> bytes:
    """
    Return what the job's own shell reads: it never appears in a process list.

    Raises:
        BadInput: the command or a variable is none that a process can be given.
    """
    _check_strings(spec, variables)
    plain = {name: value for name, value in variables.items() if _SHELL_NAME.fullmatch(name)}
    plain = {name: value for name, value in plain.items() if name not in _SHELL_OWN}
    odd = [f"{name}={value}" for name, value in variables.items() if name not in plain]
    prefix = ("env", *odd) if odd else ()
    lines = [
        f"cd {shlex.quote(os.path.realpath(spec.workspace))} || exit 126",
        *(f"{{ {line}; }} 2> /dev/null" for line in _ulimits(rlimits)),
        *(f"export {name}={shlex.quote(value)}" for name, value in plain.items()),
        *_secrets(spec, variables),
        "unset PWD OLDPWD",
        _program(spec, prefix),
    ]
    return os.fsencode("\n".join(lines) + "\n")


def _secrets(spec: ContainerSpec, variables: dict[str, str]) -> list[str]:
    """Let the shell read them from memory: what it is told here stands on a disk for a moment."""
    shown = spec.secrets if spec.secrets_in_env else ()
    files = {name: shlex.quote(os.path.join(variables[SECRETS_VARIABLE], name)) for name in shown}
    return [f'{name}="$(command -p cat {file})" || exit 126; export {name}' for name, file in files.items()]


def _program(spec: ContainerSpec, prefix: tuple[str, ...]) -> str:
    if spec.steps:
        return script([(*prefix, *step) for step in spec.steps], keep_going=spec.keep_going)
    return f"exec {shlex.join((*prefix, *spec.command))} < /dev/null"


def _ulimits(rlimits: Rlimits) -> list[str]:
    lines = ["ulimit -c 0", f"ulimit -n {OPEN_FILES} || ulimit -n $(ulimit -H -n)"]
    if rlimits.file_bytes:
        lines.append(f"ulimit -f {max(1, rlimits.file_bytes // 512)}")
    if rlimits.address_bytes:
        lines.append(f"ulimit -v {max(1, rlimits.address_bytes // 1024)}")
    if rlimits.processes:
        lines.append(f"ulimit -u {rlimits.processes} || ulimit -p {rlimits.processes}")
    return lines


def _check_strings(spec: ContainerSpec, variables: dict[str, str]) -> None:
    if not spec.steps and (not spec.command or not spec.command[0]):
        raise BadInput('command: empty: write the program and its arguments, as in ["python3", "train.py"]')
    pairs = [f"{name}={value}" for name, value in variables.items()]
    for what, text in [
        *(("command", word) for step in (spec.command, *spec.steps) for word in step),
        *(("env", pair) for pair in pairs),
    ]:
        if "\0" in text:
            raise BadInput(f"{what}: a NUL byte can stand in no argument and no variable: leave it out")
        if len(os.fsencode(text)) > _ARGUMENT_MAX_BYTES:
            raise BadInput(f"{what}: one argument or variable is longer than 128 KiB: hand it over as an input file")
    for name in variables:
        if not name or "=" in name:
            raise BadInput(f"env: {name!r} cannot name a variable: leave out the = sign")


def check_command(program: str, *, path: str, workspace: str, may_run: Callable[[str], str | None]) -> None:
    """
    Find the program as the job's shell will; ``may_run`` tells why the job may not run an existing file, or None.

    Raises:
        BadInput: it will not be found or may not be run; says where it was looked for and what to do.
    """
    if "/" in program:
        problem = _problem(os.path.join(workspace, program), may_run)
        if problem:
            raise BadInput(f"{program}: {problem}")
        return
    places = [os.path.join(workspace, place, program) for place in path.split(":")]
    if any(_problem(place, may_run) is None for place in places):
        return
    found = [(place, _problem(place, may_run)) for place in places if os.path.isfile(place)]
    if found:
        raise BadInput(f"{program}: found as {found[0][0]}, but {found[0][1]}")
    here = f", or write ./{program} for the one in the workspace" if _is_in(workspace, program) else ""
    raise BadInput(f"{program}: not found in PATH ({path}): name an installed program or its full path{here}")


def _problem(file: str, may_run: Callable[[str], str | None]) -> str | None:
    try:
        found = os.stat(file)
    except OSError:
        return (
            "no such file: paths in a command begin at the workspace; check the name, and that an input puts it there"
        )
    if stat.S_ISDIR(found.st_mode):
        return "is a directory: name a program in it"
    if not found.st_mode & (stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH):
        return f"not executable: set its x bit, or run it by its interpreter, as in `sh {os.path.basename(file)}`"
    return may_run(file)


def _is_in(workspace: str, program: str) -> bool:
    return os.path.isfile(os.path.join(workspace, program))
