"""
Logins at registries of images: a file of our own, or a Docker ``config.json`` as ``docker login`` writes it.

Pure. No sentence here holds a value of the file, but for the names of registries.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import cast

from adapters.credential_keys import RegistryFile
from adapters.unusable import Unusable
from runner.credential import Credential, RegistryLogin
from runner.image_name import HUB, canonical_host
from runner.secret import Secret

_PLACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(:\d{1,5})?(/[a-z0-9][a-z0-9._/-]*)?|\[[0-9A-Fa-f:]+\](:\d{1,5})?")
_API = re.compile(r"/v[12](/.*)?")
_HELPERS = ("credsStore", "credHelpers")
_NO_HELPERS = "logins kept by a helper program ({}) are not used: write username and password instead"


def registry_of_file(file: RegistryFile) -> Credential:
    """
    Return the credential of a file of our own.

    Raises:
        Unusable: its keys do not go together.
    """
    place = _place(file.host)
    if place is None:
        raise Unusable('host must be HOST, HOST:PORT or HOST/PATH, as in host = "ghcr.io"')
    if bool(file.username) != bool(file.password) or bool(file.token) == bool(file.password):
        raise Unusable("username and password belong together: write both, or token alone")
    login = RegistryLogin(place, file.username, Secret(file.password), Secret(file.token))
    return Credential(file.kind, place, logins=(login,))


def is_docker_config(document: Mapping[str, object]) -> bool:
    """Tell a Docker ``config.json`` from other JSON."""
    return "auths" in document or any(key in document for key in _HELPERS)


def registry_of_docker(document: Mapping[str, object]) -> Credential:
    """
    Return all logins of a Docker ``config.json``.

    Raises:
        Unusable: it holds none that can be used.
    """
    helpers = ", ".join(key for key in _HELPERS if document.get(key))
    auths = document.get("auths") or {}
    if not isinstance(auths, dict):
        raise Unusable("auths must be a table of registries, as docker login writes it")
    entries = cast("dict[str, object]", auths)
    logins = tuple(login for host, entry in entries.items() if (login := _login(host, entry)) is not None)
    if not logins:
        raise Unusable(_NO_HELPERS.format(helpers) if helpers else "has no login in auths: docker login writes one")
    options = {"warning": _NO_HELPERS.format(helpers)} if helpers else {}
    places = dict.fromkeys(login.place for login in logins)
    return Credential("registry", ", ".join(places), logins=logins, options=options)


def _login(host: str, entry: object) -> RegistryLogin | None:
    """Read one entry of ``auths``; None where it only says that a helper has the login."""
    place = _place(host)
    if place is None:
        raise Unusable("auths names a registry that is none: write HOST, HOST:PORT or HOST/PATH")
    if not isinstance(entry, dict):
        raise Unusable(f"auths: the login at {place} is no table, as docker login writes it")
    fields = cast("dict[str, object]", entry)
    if token := _text(fields, "identitytoken", place):
        return RegistryLogin(place, token=Secret(token))
    username, password = _text(fields, "username", place), _text(fields, "password", place)
    if auth := _text(fields, "auth", place):
        username, password = _decoded(auth, place)
    if bool(username) != bool(password):
        raise Unusable(f"auths: the login at {place} needs username and password")
    return RegistryLogin(place, username, Secret(password)) if username else None


def _text(fields: dict[str, object], key: str, place: str) -> str:
    value = fields.get(key, "")
    if not isinstance(value, str):
        raise Unusable(f"auths: {key} of the login at {place} is no text")
    return value


def _decoded(auth: str, place: str) -> tuple[str, str]:
    try:
        username, found, password = base64.b64decode(auth, validate=True).decode().rstrip("\0").partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        found, username, password = "", "", ""
    if not found:
        raise Unusable(f"auths: auth of the login at {place} is not the base64 of USER:PASSWORD")
    return username, password


def _place(text: str) -> str | None:
    """Return the one spelling of HOST[:PORT][/PATH], None where it is none."""
    bare = re.sub(r"^https?://", "", text.strip()).rstrip("/")
    if not _PLACE.fullmatch(bare):
        return None
    host, _, path = bare.partition("/")
    host = canonical_host(host)
    path = "" if _API.fullmatch(f"/{path}") or (host == HUB and path == "library") else path
    return f"{host}/{path}" if path else host
