"""
What the bytes of a credential file say: our own TOML, recognised by its content, or a foreign form that has a name.

Pure. No sentence here holds a value from the file, since any of them may be a secret; keys and places are told.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import Literal, cast

import msgspec

from adapters.folder_urls import NO_PATH, queue_url_problem, results_url_problem
from adapters.shape import convert, misfit, nearest
from runner.credential import Credential, Rights
from runner.units import Duration

SERVED = ("folder",)
LATER = ("redis", "rabbitmq", "sqs", "pubsub", "s3", "gcs", "http", "registry", "secret")
DIALECTS = ("native",)
LATER_DIALECTS = ("studioml", "rai")
LATER_KEYS = ("stores", "secrets", "network", "capabilities", "mounts", "allow_endpoints")
"""Rights that nothing grants yet. A file that names one is refused: who wrote it counts on it."""
LEASE_MIN_S, LEASE_MAX_S = 1.0, 86400.0
WEIGHT_MAX = 1e6

_URL_ALONE = re.compile(r"\s*([a-z][a-z0-9+.-]*)://\S+\s*", re.IGNORECASE)
_URL_KINDS = {"redis": "redis", "rediss": "redis", "amqp": "rabbitmq", "amqps": "rabbitmq", "sqs": "sqs", "s3": "s3"}
_AWS = re.compile(r"^\s*aws_(access_key_id|secret_access_key)\s*=", re.MULTILINE | re.IGNORECASE)
_GOOGLE_TYPES = ("service_account", "authorized_user", "external_account")
_PLACE = re.compile(r"\(at (line \d+, column \d+|end of document)\)")


class Unusable(ValueError):
    """The file cannot be used; the text says why and what to write, and holds no value of it."""


class FolderFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A credential file of kind ``folder``: the queue, then what its jobs may reach."""

    kind: Literal["folder"]
    url: str
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
    lease: Duration = Duration(60)
    timeout: Duration | None = None
    user_max_running: int | None = None
    sole_reader: bool = False


def read_credential(data: bytes) -> Credential:
    """
    Return the typed credential that a file's bytes hold.

    Raises:
        Unusable: they hold none, one that is not served yet, or one with a mistake.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unusable("is no text: write it as UTF-8") from None
    if not text.strip():
        raise Unusable('is empty: write kind = "folder" and a url')
    _check_foreign(text)
    return _typed(_parse(text))


def _check_foreign(text: str) -> None:
    """Name the forms in which other programs keep credentials."""
    alone = _URL_ALONE.fullmatch(text)
    if alone and alone[1].lower() in _URL_KINDS:
        raise _later(_URL_KINDS[alone[1].lower()], "is a bare URL")
    if _AWS.search(text):
        raise _later("sqs or s3", "holds AWS credentials")
    if not text.lstrip().startswith("{"):
        return
    document = _json(text)
    if document.get("type") in _GOOGLE_TYPES:
        raise _later("pubsub or gcs", "holds Google credentials")
    if "auths" in document:
        raise _later("registry", "holds the logins of a registry")
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
        raise Unusable(
            f"kind: no such kind{nearest(kind, (*SERVED, *LATER)) or '; known are folder, ' + ', '.join(LATER)}"
        )
    try:
        file = cast("FolderFile", convert(document, FolderFile))
    except (ValueError, OverflowError):
        raise Unusable(misfit(document, FolderFile, show_values=False) or "holds a value that does not fit") from None
    _check(file)
    return _credential(file)


def _check(file: FolderFile) -> None:
    _check_served(file)
    _check_folder_url("url", file.url)
    if file.results:
        _check_folder_url("results", file.results)
    if not all(path.startswith("/") and ".." not in path.split("/") and "\0" not in path for path in file.paths):
        raise Unusable('paths must be absolute and without .., as in paths = ["/data"]')
    _check_dialect(file.dialect)
    if not 0 < file.weight <= WEIGHT_MAX:
        raise Unusable("weight must be more than 0 and at most 1000000")
    if not LEASE_MIN_S <= file.lease <= LEASE_MAX_S:
        raise Unusable('lease must be "1s" to "24h"')
    if file.timeout is not None and file.timeout <= 0:
        raise Unusable("timeout must be longer than 0")
    if file.user_max_running is not None and file.user_max_running < 1:
        raise Unusable("user_max_running must be 1 or more")


def _check_served(file: FolderFile) -> None:
    if asked := [key for key in LATER_KEYS if getattr(file, key)]:
        it = "it" if len(asked) == 1 else "them"
        raise Unusable(f"{', '.join(asked)}: not served yet, so no job would get {it}: take {it} out of the file")


def _check_dialect(dialect: str) -> None:
    if dialect in LATER_DIALECTS:
        raise Unusable(f"dialect {dialect} is not served yet")
    if dialect not in DIALECTS:
        raise Unusable(f"dialect: no such dialect{nearest(dialect, DIALECTS) or '; known is native'}")


def _check_folder_url(key: str, url: str) -> None:
    scheme, found, _ = url.partition("://")
    if found and scheme in _URL_KINDS | {"http": "", "https": "", "gs": ""}:
        raise Unusable(f"{key}: {scheme}:// is not served yet for kind folder: write folder:///absolute/path")
    problem = results_url_problem(url) if key == "results" else queue_url_problem(url)
    if problem or ".." in url.split("/"):
        raise Unusable(f"{key} {problem or NO_PATH}")


def _credential(file: FolderFile) -> Credential:
    taken = ("runtime", "paths", "weight", "dialect", "results", "user_max_running", "sole_reader")
    rights = Rights(
        **{name: getattr(file, name) for name in taken},
        timeout_s=None if file.timeout is None else float(file.timeout),
    )
    return Credential(file.kind, file.url, rights, lease=file.lease)
