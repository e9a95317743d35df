"""
What the keys of a file mean for its kind: the service's URL without secrets, the secrets, and how it is reached.

Pure. No sentence here holds a value of the file.
"""

from __future__ import annotations

import re
from typing import assert_never

import msgspec

from adapters.credential_keys import (
    LATER_KEYS,
    AnyFile,
    AnyQueueFile,
    FolderFile,
    LoginFile,
    RabbitFile,
    RedisFile,
    RegistryFile,
    SecretFile,
    SqsFile,
)
from adapters.credential_registry import registry_of_file
from adapters.credential_urls import SECURE, queue_url, results_url, web_url
from adapters.secret_files import SECRET_NAME
from adapters.shape import nearest
from adapters.sinks.urls import sink_secrets, sink_urls
from adapters.unusable import Unusable
from runner.credential import Credential, QueueRights, Rights
from runner.environment import passed_on
from runner.loosening import LOOSENINGS, is_path, misworded
from runner.pattern import problem
from runner.secret import Secret

DIALECTS = ("native",)
LATER_DIALECTS = ("studioml", "rai")
LEASE_MIN_S, LEASE_MAX_S = 1.0, 86400.0
SQS_LEASE_MAX_S = 43200.0
"""What SQS lets a message be invisible for."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
WEIGHT_MAX = 1e6


class Service(msgspec.Struct, frozen=True):
    """A service as its file names it."""

    url: str
    secrets: dict[str, Secret] = {}
    options: dict[str, str] = {}


def credential_of(file: AnyFile) -> Credential:
    """
    Return the credential that a file's keys mean.

    Raises:
        Unusable: one of them cannot stand so.
    """
    if isinstance(file, SecretFile):
        return _secrets(file)
    if isinstance(file, RegistryFile):
        return registry_of_file(file)
    _check_rights(file)
    service = _service(file)
    results = results_url(file.results) if file.results else None
    sinks = sink_urls(file.sinks)
    named = {name: getattr(file, name) for name in QueueRights.__struct_fields__}
    rights = Rights(
        **{**named, "results": results.url if results else "", "sinks": tuple(sink.url for sink in sinks)},
        timeout_s=None if file.timeout is None else float(file.timeout),
    )
    return Credential(
        file.kind,
        service.url,
        rights,
        secrets={**service.secrets, **(results.secrets("results_") if results else {}), **sink_secrets(sinks)},
        lease=file.lease,
        options=service.options,
        match=file.match,
        mismatch=file.mismatch,
    )


def _secrets(file: SecretFile) -> Credential:
    if not is_path(file.directory) or file.directory == "/":
        raise Unusable('directory must be absolute and without .., as in directory = "/etc/runner/secrets"')
    return Credential(file.kind, file.directory.rstrip("/"))


def _service(file: AnyQueueFile) -> Service:
    match file:
        case FolderFile():
            return Service(queue_url("folder", file.url).url)
        case RedisFile():
            return _with_login(file, "redis", {})
        case RabbitFile():
            management = web_url("management", file.management) if file.management else ""
            return _with_login(file, "rabbitmq", {"management": management, "queue_type": file.queue_type or ""})
        case SqsFile():
            return _sqs(file)
        case _:
            assert_never(file)


def _with_login(file: LoginFile, kind: str, options: dict[str, str]) -> Service:
    found = queue_url(kind, file.url)
    written = {"username": file.username, "password": file.password}
    if twice := [name for name, text in written.items() if text and name in found.secrets()]:
        raise Unusable(f"{twice[0]} stands in url, too: write it once")
    secrets = {**found.secrets(), **{name: Secret(text) for name, text in written.items() if text}}
    if "username" in secrets and "password" not in secrets:
        raise Unusable("password is missing: username stands without it")
    if file.ca_file and found.url.partition(":")[0] not in SECURE:
        raise Unusable(f"ca_file is for {' and '.join(f'{it}://' for it in sorted(SECURE))}: the url is neither")
    return Service(found.url, secrets, _options({**options, "ca_file": _ca_file(file.ca_file)}))


def _sqs(file: SqsFile) -> Service:
    keys = {"access_key": file.access_key, "secret_key": file.secret_key, "session_token": file.session_token}
    if bool(file.access_key) != bool(file.secret_key) or (file.session_token and not file.access_key):
        raise Unusable("access_key and secret_key belong together: write both, or neither for the default chain")
    if file.access_key and file.profile:
        raise Unusable("profile names the keys already: leave access_key and secret_key out, or profile")
    endpoint = web_url("endpoint", file.endpoint) if file.endpoint else ""
    secrets = {name: Secret(text) for name, text in keys.items() if text}
    options = {"profile": file.profile, "endpoint": endpoint, "ca_file": _ca_file(file.ca_file)}
    return Service(_sqs_url(file), secrets, _options(options))


def _sqs_url(file: SqsFile) -> str:
    """Let a region stand in the URL or as a key; where it stands nowhere, the default chain knows it."""
    found = queue_url("sqs", file.url or f"sqs://{file.region}/").url
    region, _, queue = found.removeprefix("sqs://").partition("/")
    if region and file.region and region != file.region:
        raise Unusable("region is another one than that of the url: write it once")
    return queue_url("sqs", f"sqs://{region or file.region}/{queue}").url


def _options(named: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in named.items() if text}


def _ca_file(path: str) -> str:
    if path and not is_path(path):
        raise Unusable('ca_file must be absolute and without .., as in ca_file = "/etc/ssl/rabbit.pem"')
    return path


def _check_rights(file: AnyQueueFile) -> None:
    _check_served(file)
    if not all(is_path(path) for path in file.paths):
        raise Unusable('paths must be absolute and without .., as in paths = ["/data"]')
    _check_loosening(file)
    _check_dialect(file.dialect)
    if not 0 < file.weight <= WEIGHT_MAX:
        raise Unusable("weight must be more than 0 and at most 1000000")
    _check_lease(file)
    if file.timeout is not None and file.timeout <= 0:
        raise Unusable("timeout must be longer than 0")
    if file.user_max_running is not None and file.user_max_running < 1:
        raise Unusable("user_max_running must be 1 or more")
    _check_patterns({"match": file.match, "mismatch": file.mismatch})


def _check_loosening(file: AnyQueueFile) -> None:
    for key in LOOSENINGS:
        named = getattr(file, key)
        if wrong := misworded(key, *((named,) if isinstance(named, str) else named)):
            raise Unusable(wrong)
    _check_secrets(file.secrets, in_env=file.secrets_in_env)


def _check_secrets(names: tuple[str, ...], *, in_env: bool) -> None:
    if not all(SECRET_NAME.fullmatch(name) for name in names):
        raise Unusable('secrets must be names of letters, digits and _.-, as in secrets = ["HF_TOKEN"]')
    if in_env and not all(_VARIABLE.fullmatch(name) and passed_on({name: ""}) for name in names):
        raise Unusable(
            "secrets_in_env: one of the secrets can name no variable, or one that no job may set: rename it, or give "
            "files alone"
        )


def _check_served(file: AnyQueueFile) -> None:
    if asked := [key for key in LATER_KEYS if getattr(file, key)]:
        it = "it" if len(asked) == 1 else "them"
        raise Unusable(f"{', '.join(asked)}: not served yet, so no job would get {it}: take {it} out of the file")


def _check_dialect(dialect: str) -> None:
    if dialect in LATER_DIALECTS:
        raise Unusable(f"dialect {dialect} is not served yet")
    if dialect not in DIALECTS:
        raise Unusable(f"dialect: no such dialect{nearest(dialect, DIALECTS) or '; known is native'}")


def _check_lease(file: AnyQueueFile) -> None:
    most_s = SQS_LEASE_MAX_S if isinstance(file, SqsFile) else LEASE_MAX_S
    if not LEASE_MIN_S <= file.lease <= most_s:
        raise Unusable(f'lease must be "1s" to "{most_s / 3600:.0f}h"')


def _check_patterns(named: dict[str, str]) -> None:
    for key, pattern in named.items():
        if problem(pattern):
            raise Unusable(f'{key} is no regular expression of RE2\'s syntax: write one like {key} = "^train"')
