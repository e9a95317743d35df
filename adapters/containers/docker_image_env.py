"""
What an image's own environment must lose before a container of it is made, and whether the engine took it out.
"""

from __future__ import annotations

from collections.abc import Iterable

from adapters.containers.docker_state import Made
from runner.environment import taken_from_image
from runner.errors import RuntimeMissing

_OURS = ("RUNNER_", "TINI_", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "CUDA_VISIBLE_DEVICES")
"""What a container may have of the runner's; those of the image gave way to them."""


def without(names: Iterable[str], variables: Iterable[str]) -> list[str]:
    """Add to a container's variables those that the engine is to remove: a bare name says so."""
    variables = list(variables)
    ours = {variable.partition("=")[0] for variable in variables}
    return [*variables, *(name for name in names if name not in ours)]


def check_environment(created: Made) -> None:
    """
    Make sure that the engine took out of a container's environment what an image may not set.

    Raises:
        RuntimeMissing: it left some, or the image's name means another image than a moment ago.
    """
    # A bare name stays in what the engine tells, and stands for none.
    variables = [entry for entry in created.env if "=" in entry]
    left = [name for name in taken_from_image(variables) if not name.startswith(_OURS)]
    if left:
        raise RuntimeMissing(
            f"the engine leaves {', '.join(left[:5])} of the image in a container's environment, which could change "
            "what runs outside of it: use an image that does not set it"
        )
