"""Which secrets of a credential are those of its result backend."""

from __future__ import annotations

from runner.credential import Credential
from runner.secret import Secret

_NAMES = {"username": "results_username", "password": "results_password"}


def results_secrets(credential: Credential) -> dict[str, Secret]:
    """Return the secrets of the queue's own service, or those of the one that is named for results."""
    if not credential.rights.results:
        return credential.secrets
    return {name: credential.secrets[key] for name, key in _NAMES.items() if key in credential.secrets}
