"""
The steps of a job in a container: a script for the image's ``sh``, and the file that it leaves exit codes in.

Both stand in the container's own directory, which it sees as ``/run/runner``: the script read-only as everything there,
the codes as a mount of their own, which the job can write but neither delete nor replace. Every function blocks.
"""

from __future__ import annotations

import os

from adapters.containers import steps
from adapters.containers.docker_spec import STEPS_CODES, STEPS_SCRIPT
from adapters.files import explained
from runner.ports import ContainerSpec


def lay_out(directory: str, spec: ContainerSpec) -> None:
    """
    Write what a container with steps needs into its directory; nothing for one without.

    Raises:
        OutOfSpace, Unavailable: it cannot be written.
    """
    if not spec.steps:
        return
    script = steps.script(spec.steps, keep_going=spec.keep_going)
    for name, text in ((STEPS_SCRIPT, script), (STEPS_CODES, "")):
        path = os.path.join(directory, name)
        with explained(f"lay out the steps of {spec.name}", path):
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(path, 0o644)


def hand_over(directory: str, owner: int) -> None:
    """Let the job's user write its codes; nothing without steps."""
    path = os.path.join(directory, STEPS_CODES)
    if os.path.exists(path) and os.geteuid() != owner:
        os.chown(path, owner, owner)


def disk_bytes(directory: str, name: str) -> int:
    """Measure what the job wrote there, which alone of all that it can write outside of its workspace is on a disk."""
    try:
        return os.stat(os.path.join(directory, name, STEPS_CODES)).st_blocks * 512
    except OSError:
        return 0


def codes(directory: str, name: str) -> tuple[int, ...]:
    """Return the exit codes of the steps that ended."""
    return steps.codes(os.path.join(directory, name, STEPS_CODES))
