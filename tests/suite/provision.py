"""Has the services: lists them, installs what is missing where that is allowed, starts instances."""

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.services import packages
from tests.services.instances import started
from tests.services.service import Service, ServiceError
from tests.suite.screen import Screen

MB = 1_000_000


@dataclass(kw_only=True)
class Provision:
    """What came of it: the variables for tests, and by service why it is not there."""

    variables: dict[str, str] = field(default_factory=dict)
    obstacles: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """Return what tests read: where each service is, or `RUNNER_TEST_<NAME>_ABSENT`, the reason to skip."""
        absent = {f"RUNNER_TEST_{name.upper()}_ABSENT": reason for name, reason in self.obstacles.items()}
        return {**self.variables, **absent}


def provide(
    services: Sequence[Service], scratch: Path, stack: ExitStack, screen: Screen, *, present_only: bool
) -> Provision:
    """Have each service run below `scratch` until `stack` is closed, or know why it cannot."""
    provision = Provision()
    missing = _listed(services, screen, present_only=present_only)
    if missing and not present_only and os.geteuid() == 0:
        _install(missing, provision, screen)
    for service in services:
        if present_only and _to_be_made(service):
            provision.obstacles[service.name] = "not made here yet, and only what is present is used"
        _start(service, provision, scratch, stack, screen)
    return provision


def _listed(services: Sequence[Service], screen: Screen, *, present_only: bool) -> list[Service]:
    screen.say(" SERVICE    PURPOSE                                      STATE")
    missing = []
    for service in services:
        state = _state(service, present_only=present_only)
        screen.say(f" {service.name:<10} {service.purpose:<44} {state}")
        if service.missing_programs():
            missing.append(service)
    return missing


def _state(service: Service, *, present_only: bool) -> str:
    if not service.missing_programs():
        if _to_be_made(service):
            return "not made here yet" + ("" if present_only else "; will be made once, from the package index")
        return service.obstacle() or ("installed; a private one will be started" if service.start else "installed")
    absent = f"not installed ({', '.join(service.missing_programs())})"
    if present_only:
        return f"{absent}; only what is present is used"
    size = _size(service)
    if os.geteuid() != 0:
        return f"{absent}; to have it, type: sudo apt-get install {' '.join(service.packages)}   ({size})"
    return f"{absent}; will install {' '.join(service.packages)}: {size}"


def _to_be_made(service: Service) -> bool:
    return service.made is not None and not service.made.exists()


def _size(service: Service) -> str:
    try:
        plan = packages.plan(service.packages)
    except ServiceError as error:
        return f"size unknown: {error}"
    return f"{plan.new} packages, {plan.download_bytes / MB:.0f} MB to fetch, {plan.disk} on disk"


def _install(missing: Sequence[Service], provision: Provision, screen: Screen) -> None:
    began = time.monotonic()
    names = tuple(name for service in missing for name in service.packages)
    screen.live(f" installing {' '.join(names)} …")
    try:
        packages.install(names)
    except ServiceError as error:
        provision.obstacles.update({service.name: str(error) for service in missing})
        screen.say(f" not installed: {error}")
        return
    screen.say(f" installed {' '.join(names)}; no daemon was started by it      {time.monotonic() - began:.1f} s")


def _start(service: Service, provision: Provision, scratch: Path, stack: ExitStack, screen: Screen) -> None:
    if service.name in provision.obstacles:
        return
    began = time.monotonic()
    screen.live(f" starting {service.name} …")
    try:
        provision.variables.update(stack.enter_context(started(service, scratch)))
    except ServiceError as error:
        provision.obstacles[service.name] = str(error)
        screen.say(f" {service.name}: not available: {error}")
        return
    if service.start:
        screen.say(f" {service.name}: ready in {time.monotonic() - began:.1f} s")
