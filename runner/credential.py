"""
What a credential file says once it is read: a service, and the rights of the jobs that come from it.

Nothing here holds a secret in the open; messages carry a credential's file name, and adapters look the current
value up when they open.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from runner.image_name import repository_of
from runner.secret import Secret
from runner.units import Duration


class QueueRights(msgspec.Struct, frozen=True):
    """
    What a credential file may say of its queues' jobs, key by key; nothing is allowed by default.

    ``paths`` are directories that ``folder://`` URLs may name; ``stores`` are URL prefixes; ``sole_reader`` marks a
    queue that no other box reads. ``cut_off`` says what becomes of jobs whose claim cannot be renewed for a whole
    lease: they run on, or are stopped, since another box may begin them.

    What its jobs may ask for by name: ``secrets``, ``network``, ``capabilities``, ``mounts`` (directories of the box,
    read-only), ``images`` (patterns; none: any), ``push`` (prefixes of image names). What all of its jobs get:
    ``root`` (uid 0 inside the container, where the engine gives that another user), ``seccomp`` (a profile's path),
    ``oci_runtime``, ``secrets_in_env``, ``pull``; ``build_network`` is what its image builds may reach.
    """

    runtime: Literal["container", "process"] = "container"
    paths: tuple[str, ...] = ()
    stores: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    network: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    allow_endpoints: tuple[str, ...] = ()
    weight: float = 1.0
    dialect: str = "native"
    results: str = ""
    sinks: tuple[str, ...] = ()
    user_max_running: int | None = None
    cut_off: Literal["run on", "stop"] = "run on"
    sole_reader: bool = False
    root: bool = False
    seccomp: str = ""
    oci_runtime: str = ""
    secrets_in_env: bool = False
    images: tuple[str, ...] = ()
    pull: Literal["missing", "always", "never"] = "missing"
    push: tuple[str, ...] = ()
    build_network: str = "none"


class Rights(QueueRights, frozen=True):
    """What a queue's jobs may reach; ``own`` marks the box's own queue (local, owner only)."""

    timeout_s: float | None = None
    own: bool = False


class RegistryLogin(msgspec.Struct, frozen=True):
    """
    A login at one place, ``HOST[:PORT][/PATH]``, for images whose names begin so; ``token`` instead of a password.
    """

    place: str
    username: str = ""
    password: Secret = Secret("")
    token: Secret = Secret("")


class Credential(msgspec.Struct, frozen=True):
    """
    One typed credential: its kind, the service's URL without user and secrets, the secrets by name, and its rights.

    ``options`` say how the service is reached (``ca_file``, ``endpoint``, ``management`` …); none of them is secret.
    ``match`` and ``mismatch`` are regular expressions for the queues behind it that are served.

    Secrets are ``username`` and ``password``; of AWS ``access_key``, ``secret_key`` and ``session_token``; of a result
    backend elsewhere ``results_username`` and ``results_password``, of a sink the same two behind its name.
    """

    kind: str
    url: str
    rights: Rights = Rights()
    secrets: dict[str, Secret] = {}
    lease: Duration = Duration(60)
    options: dict[str, str] = {}
    match: str = ""
    mismatch: str = ""
    logins: tuple[RegistryLogin, ...] = ()
    """Of kind ``registry`` alone."""


NO_QUEUES = frozenset({"registry", "secret"})
"""Kinds of credentials that name no queues; the URL of a secret is its directory, of a registry its places."""


class CredentialFile(msgspec.Struct, frozen=True):
    """
    One file of the watched directory as a scan found it.

    ``credential`` is None where the file cannot be used; then ``reason`` says why, naming the file and never a value
    of it. ``warning`` is about a usable one (loose modes). ``content`` is a digest: equal content, equal digest.
    ``note`` says what stands behind one that names no queues.
    """

    file: str
    content: str
    credential: Credential | None = None
    reason: str = ""
    warning: str = ""
    note: str = ""

    @property
    def has_queues(self) -> bool:
        """Whether queues may stand behind it: also of one that cannot be used."""
        return self.credential is None or self.credential.kind not in NO_QUEUES


def login_for(image: str, files: Iterable[CredentialFile]) -> tuple[str, RegistryLogin] | None:
    """Return the login for an image whose place is the longest beginning of its name, and the file that has it."""
    repository = f"{repository_of(image)}/"
    found = [
        (len(login.place), file.file, login)
        for file in files
        if file.credential is not None
        for login in file.credential.logins
        if repository.startswith(f"{login.place}/")
    ]
    best = max(found, key=lambda it: it[0], default=None)
    return None if best is None else best[1:]
