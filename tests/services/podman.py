"""Podman, whose Docker-compatible socket is refused; tests that need it start it themselves."""

from tests.services.service import Service

SERVICE = Service(
    name="podman",
    purpose="an engine that is told apart from Docker's",
    programs=("podman",),
    packages=("podman",),
    root_needed=True,
    start=None,
)
