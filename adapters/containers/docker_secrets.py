"""
Secrets of container jobs: laid out in memory on the box and shown to the container, read-only, in ``/run/secrets``.

As variables they stand in what the engine keeps of the container, for whoever may ask it; hence only where the queue's
file says so. Every function blocks.
"""

from __future__ import annotations

from typing import Any

from adapters.containers.docker_spec import SECRETS
from adapters.containers.secret_shelf import SECRETS_VARIABLE, SecretShelf, variable
from runner.ports import ContainerSpec


class ContainerSecrets:
    """The secrets of one attempt on its way into a container."""

    def __init__(self, shelf: SecretShelf, spec: ContainerSpec) -> None:
        """
        Read the values, and make the directory that the container is to see.

        Raises:
            SecretMissing: the box lacks one, or has no place in memory.
        """
        self._shelf, self._spec = shelf, spec
        self._values = shelf.values(spec.secrets)
        self._directory = shelf.make(spec.name) if spec.secrets else ""

    def add_to(self, body: dict[str, Any]) -> None:
        """Let the engine's create call show them."""
        if not self._spec.secrets:
            return
        body["Env"] = [*body["Env"], f"{SECRETS_VARIABLE}={SECRETS}", *self._variables()]
        mount = {"Type": "bind", "Source": self._directory, "Target": SECRETS, "ReadOnly": True}
        body["HostConfig"]["Mounts"] = [*body["HostConfig"]["Mounts"], mount]

    def _variables(self) -> list[str]:
        shown = self._values if self._spec.secrets_in_env else {}
        return [f"{name}={variable(name, value)}" for name, value in shown.items()]

    def hand_over(self, uid: int) -> None:
        """Write the values for the job's user; the container is there and has not begun."""
        if self._spec.secrets:
            self._shelf.fill(self._spec.name, self._values, uid)
