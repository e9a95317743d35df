"""
What the bytes of a credential file say: our own TOML, recognised by its content, or a foreign form that has a name.

Pure. No sentence here holds a value from the file, since any of them may be a secret; keys and places are told.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import cast

from adapters.credential_aws import has_keys, is_config, read_keys
from adapters.credential_keys import FILES, AnyFile
from adapters.credential_kinds import credential_of
from adapters.credential_registry import is_docker_config, registry_of_docker
from adapters.credential_urls import KINDS
from adapters.shape import convert, misfit, nearest
from adapters.unusable import Unusable
from runner.credential import Credential

SERVED = tuple(FILES)
LATER = ("pubsub", "s3", "gcs", "http")

_URL_ALONE = re.compile(r"\s*([a-z][a-z0-9+.-]*)://\S+\s*", re.IGNORECASE)
_LATER_URLS = {"s3": "s3", "gs": "gcs"}
_GOOGLE_TYPES = ("service_account", "authorized_user", "external_account")
_PLACE = re.compile(r"\(at (line \d+, column \d+|end of document)\)")
_CERTIFICATE = "-----BEGIN CERTIFICATE-----"


def read_credential(data: bytes, beside: tuple[bytes, ...] = ()) -> Credential:
    """
    Return the typed credential that a file's bytes hold; ``beside`` are the companions in the same directory.

    Raises:
        Unusable: they hold none, one that is not served yet, or one with a mistake.
    """
    text = _text(data)
    if not text.strip():
        raise Unusable('is empty: write kind = "folder" and a url')
    if text.lstrip().startswith("{"):
        return _json_credential(text)
    return _typed(_document(text, beside))


def is_companion(data: bytes) -> bool:
    """Tell whether a file is no credential of its own but belongs to others: certificates, an AWS config."""
    try:
        text = _text(data)
    except Unusable:
        return False
    return text.lstrip().startswith(_CERTIFICATE) or is_config(text)


def uses_companions(data: bytes) -> bool:
    """Tell whether what a file says depends on an AWS config beside it."""
    try:
        return has_keys(_text(data))
    except Unusable:
        return False


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unusable("is no text: write it as UTF-8") from None


def _document(text: str, beside: tuple[bytes, ...]) -> dict[str, object]:
    """Return a file as a document of our own, whatever its form; foreign ones that are not served are named."""
    if alone := _URL_ALONE.fullmatch(text):
        return _bare_url(alone[1].lower(), text.strip())
    if is_config(text):
        raise Unusable("is an AWS config without a credentials file beside it: add one, or take it away")
    if has_keys(text) and "kind" not in _keys_of(text):
        return read_keys(text, [config for config in map(_lenient, beside) if is_config(config)])
    return _parse(text)


def _keys_of(text: str) -> frozenset[str]:
    try:
        return frozenset(_parse(text))
    except Unusable:
        return frozenset()


def _lenient(data: bytes) -> str:
    return data.decode("utf-8-sig", errors="replace")


def _bare_url(scheme: str, url: str) -> dict[str, object]:
    if scheme in _LATER_URLS:
        raise _later(_LATER_URLS[scheme], "is a bare URL")
    if scheme not in KINDS:
        raise Unusable("is a bare URL of no kind that is known: write one like redis://HOST:PORT/DB")
    return {"kind": KINDS[scheme], "url": url}


def _json_credential(text: str) -> Credential:
    """Read the logins of a registry; name the other forms in which programs keep credentials."""
    document = _json(text)
    if document.get("type") in _GOOGLE_TYPES:
        raise _later("pubsub or gcs", "holds Google credentials")
    if is_docker_config(document):
        return registry_of_docker(document)
    raise Unusable('is JSON of no kind that is known: write TOML with kind = "folder" and a url')


def _json(text: str) -> dict[str, object]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise Unusable("begins as JSON and is malformed, or not yet written to its end") from None
    return cast("dict[str, object]", document) if isinstance(document, dict) else {}


def _later(kind: str, what: str) -> Unusable:
    return Unusable(f"{what}, of kind {kind}, which is not served yet")


def _parse(text: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        place = _PLACE.search(str(error))
        where = f" at {place[1].replace('end of document', 'its end')}" if place else ""
        raise Unusable(f'is no TOML{where}: write lines like kind = "folder"') from None


def _typed(document: dict[str, object]) -> Credential:
    kind = document.get("kind")
    if not isinstance(kind, str):
        raise Unusable('has no kind: write kind = "folder"')
    if kind in LATER:
        raise Unusable(f"is of kind {kind}, which is not served yet")
    if kind not in SERVED:
        known = nearest(kind, (*SERVED, *LATER)) or f"; known are {', '.join((*SERVED, *LATER))}"
        raise Unusable(f"kind: no such kind{known}")
    try:
        file = cast("AnyFile", convert(document, FILES[kind]))
    except (ValueError, OverflowError):
        problem = misfit(document, FILES[kind], show_values=False)
        raise Unusable(problem or "holds a value that does not fit") from None
    return credential_of(file)
