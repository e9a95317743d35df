"""
URLs of services as credential files write them: with user and password taken out, and checked for what they may say.

Pure. No sentence here holds any part of a URL, since a password may stand anywhere in it.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import msgspec

from adapters.folder_urls import NO_PATH, queue_url_problem, results_url_problem
from adapters.unusable import Unusable
from runner.secret import Secret

KINDS = {"folder": "folder", "redis": "redis", "rediss": "redis", "amqp": "rabbitmq", "amqps": "rabbitmq", "sqs": "sqs"}
"""The kind of service that a URL of this scheme names."""
SECURE = frozenset({"rediss", "amqps"})

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]+\]")
_PATHS = {
    "redis": re.compile(r"(/\d{0,5})?"),
    "rabbitmq": re.compile(r"(/[^/\s]*)?"),
    "sqs": re.compile(r"(/([A-Za-z0-9_-]{1,75}(\.fifo)?|[A-Za-z0-9_-]{0,75}\*)?)?"),
}
_REGION = re.compile(r"([a-z]{2,}(-[a-z0-9]+)+)?")
_FORMS = {
    "redis": "must be redis://HOST:PORT/DB or rediss://…, as in redis://cache.lan:6379/0?queue=train",
    "rabbitmq": "must be amqp://HOST:PORT/VHOST or amqps://…, as in amqp://rabbit.lan:5672/?queue=train; "
    "a / in a vhost is written %2F",
    "sqs": "must be sqs://REGION/ or sqs://REGION/QUEUE, as in sqs://eu-west-1/train; train-* are all that begin so",
}
_MORE = {
    "redis": "may say nothing behind its path but ?queue=NAME and prefix=NAME, which begins every key",
    "rabbitmq": "may say nothing behind its path but ?queue=NAME",
}
_MARK = "holds a #, which ends a URL: write it as %23"
_BEHIND = "holds an @ behind its host: in a user or password write / as %2F, ? as %3F and # as %23"
_NO_LOGIN = "write access_key and secret_key into a credential file, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_WEB = "must be http://HOST:PORT or https://HOST:PORT"


class ServiceUrl(msgspec.Struct, frozen=True):
    """A URL without user and password, and those two, decoded; "" where it named none."""

    url: str
    username: str = ""
    password: str = ""

    def secrets(self, prefix: str = "") -> dict[str, Secret]:
        """Return what it named, by name."""
        named = {"username": self.username, "password": self.password}
        return {f"{prefix}{name}": Secret(text) for name, text in named.items() if text}


def queue_url(kind: str, text: str) -> ServiceUrl:
    """
    Read the URL of a kind's queue, or of all queues behind a service.

    Raises:
        Unusable: it is none of this kind.
    """
    if kind == "folder":
        return _folder_url("url", text, queue_url_problem(text))
    found = parsed_url("url", text)
    if KINDS.get(found.scheme) != kind:
        raise Unusable(f"url {_FORMS[kind]}")
    if kind == "sqs":
        return _sqs_url(found)
    return _network_url("url", kind, found)


def results_url(text: str) -> ServiceUrl:
    """
    Read the URL of a result backend.

    Raises:
        Unusable: results are not kept in such a service, or it is no URL of one.
    """
    scheme = text.partition("://")[0].lower()
    if KINDS.get(scheme) != "redis":
        return _folder_url("results", text, results_url_problem(text))
    found = parsed_url("results", text)
    if "queue" in dict(parse_qsl(found.query, keep_blank_values=True)):
        raise Unusable("results is the place of all its queues' results: leave ?queue= out")
    return _network_url("results", "redis", found)


def web_url(key: str, text: str) -> str:
    """
    Check the address of an HTTP service.

    Raises:
        Unusable: it is none, or names a user.
    """
    found = parsed_url(key, text)
    if "@" in found.netloc:
        raise Unusable(f"{key} holds a user or password: leave them out, since those of this file are used")
    if found.scheme not in {"http", "https"} or not has_host(found) or found.query:
        raise Unusable(f"{key} {_WEB}")
    return text


def _folder_url(key: str, text: str, problem: str) -> ServiceUrl:
    scheme, found, _ = text.partition("://")
    kinds = "folder:///absolute/path or redis://HOST:PORT/DB" if key == "results" else "folder:///absolute/path"
    if found and scheme.lower() in KINDS.keys() - {"folder"} | {"http", "https", "s3", "gs"}:
        raise Unusable(f"{key}: {scheme.lower()}:// is not served here: write {kinds}")
    if problem or ".." in text.split("/"):
        raise Unusable(f"{key} {problem or NO_PATH}")
    return ServiceUrl(text)


def _sqs_url(found: SplitResult) -> ServiceUrl:
    if "@" in found.netloc:
        raise Unusable("url takes no user or key: " + _NO_LOGIN)
    if not _REGION.fullmatch(found.netloc) or not _PATHS["sqs"].fullmatch(found.path) or found.query:
        raise Unusable(f"url {_FORMS['sqs']}")
    return ServiceUrl(f"sqs://{found.netloc}/{found.path.removeprefix('/')}")


def _network_url(key: str, kind: str, found: SplitResult) -> ServiceUrl:
    login, _, host = found.netloc.rpartition("@")
    if not has_host(found) or not _PATHS[kind].fullmatch(found.path):
        raise Unusable(f"{key} {_FORMS[kind]}")
    _check_query(key, kind, found.query)
    username, _, password = login.partition(":")
    return ServiceUrl(found._replace(netloc=host).geturl(), unquote(username), unquote(password))


def _check_query(key: str, kind: str, query: str) -> None:
    named = parse_qsl(query, keep_blank_values=True)
    known = {"queue", "prefix"} if kind == "redis" else {"queue"}
    names = {name for name, _ in named}
    if bool(named) != bool(query) or len(names) < len(named) or not names <= known or not all(it for _, it in named):
        raise Unusable(f"{key} {_MORE[kind]}")


def parsed_url(key: str, text: str) -> SplitResult:
    """Take a URL apart; nothing of a password may be left where a path or a query is told."""
    if not text.isprintable() or " " in text:
        raise Unusable(f"{key} holds a space, or what no URL may hold: write it as %20")
    try:
        found = urlsplit(text)
    except ValueError:  # a bracket where a host would stand
        raise Unusable(f"{key} is no URL") from None
    if "@" in found.path + found.query + found.fragment:
        raise Unusable(f"{key} {_BEHIND}")
    if "#" in text:
        raise Unusable(f"{key} {_MARK}")
    return found


def has_host(found: SplitResult) -> bool:
    """Tell whether a host stands in a URL, perhaps with a port."""
    host = found.netloc.rpartition("@")[2]
    name, _, port = host.rpartition(":") if re.search(r":\d*$", host) else (host, "", "1")
    return bool(_HOST.fullmatch(name)) and port.isdigit() and 0 < int(port) < 1 << 16
