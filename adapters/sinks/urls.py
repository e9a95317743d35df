"""
URLs of sinks: with user and password taken out, and checked for what they may say.

Pure. No sentence here holds any part of a URL, since a password may stand anywhere in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from urllib.parse import SplitResult, parse_qsl, unquote

import msgspec

from adapters.credential_urls import has_host, parsed_url
from adapters.unusable import Unusable
from runner.secret import Secret
from runner.units import parse_duration, parse_size

KINDS = {"redis": "redis", "rediss": "redis", "unix": "redis"}
"""The kind of sink that a URL of this scheme names."""
_FORMS = {
    "redis": "write redis://HOST:PORT/DB?channel=NAME&stream=NAME, rediss://… or unix:///PATH?db=0",
}
_DATABASE = re.compile(r"(/\d{0,5})?")
_TUNING = frozenset({"lag", "maxlen", "keep"})
"""Other values of these make no other sink."""
_PLACEHOLDER = re.compile(r"\{[^}]*\}?")
_PLACEHOLDERS = frozenset({"{id}", "{key}", "{queue}"})
COUNT_MAX = 10**9


class SinkUrl(msgspec.Struct, frozen=True):
    """
    A sink as its URL names it, without user and password; ``options`` are what stands behind the ``?``.

    ``place`` is the URL up to there.
    """

    kind: str
    url: str
    place: str
    options: dict[str, str]
    username: str = ""
    password: str = ""

    @property
    def name(self) -> str:
        """What the sink is called: the same as long as it writes to the same place."""
        named = "&".join(f"{key}={text}" for key, text in sorted(self.options.items()) if key not in _TUNING)
        return f"{self.place}?{named}" if named else self.place

    @property
    def lag_max_bytes(self) -> int | None:
        """How far it may be behind."""
        return parse_size(self.options["lag"]) if "lag" in self.options else None


def sink_url(text: str) -> SinkUrl:
    """
    Read the URL of a sink.

    Raises:
        Unusable: it is none.
    """
    found = parsed_url("sinks", text)
    kind = KINDS.get(found.scheme)
    if kind is None:
        raise Unusable(f"sinks: no such sink: {'; '.join(_FORMS.values())}")
    _check_place(kind, found)
    options = _options(kind, found.query)
    login, _, host = found.netloc.rpartition("@")
    username, _, password = login.partition(":")
    bare = found._replace(netloc=host)
    place = bare._replace(query="").geturl()
    return SinkUrl(kind, bare.geturl(), place, options, unquote(username), unquote(password))


def sink_urls(texts: Iterable[str]) -> tuple[SinkUrl, ...]:
    """
    Read the URLs of all sinks of one place.

    Raises:
        Unusable: one of them is none, or two of them are one sink.
    """
    found = tuple(sink_url(text) for text in texts)
    if len({sink.name for sink in found}) < len(found):
        raise Unusable("sinks names the same one twice: write each once")
    return found


def sink_secrets(sinks: Iterable[SinkUrl]) -> dict[str, Secret]:
    """Return users and passwords of sinks, by sink."""
    named = (
        (name, text) for sink in sinks for name, text in zip(_names(sink), (sink.username, sink.password), strict=True)
    )
    return {name: Secret(text) for name, text in named if text}


def secrets_of(sink: SinkUrl, secrets: dict[str, Secret]) -> dict[str, Secret]:
    """Return what ``sink_secrets`` holds of one sink, as ``username`` and ``password``."""
    named = zip(("username", "password"), _names(sink), strict=True)
    return {name: secrets[key] for name, key in named if key in secrets}


def _names(sink: SinkUrl) -> tuple[str, str]:
    return f"{sink.name} username", f"{sink.name} password"


def _check_place(kind: str, found: SplitResult) -> None:
    is_local = found.scheme == "unix"
    place = found.path.startswith("/") and not found.netloc.rpartition("@")[2] if is_local else has_host(found)
    if not place or not (is_local or _DATABASE.fullmatch(found.path)) or ".." in found.path.split("/"):
        raise Unusable(f"sinks: {_FORMS[kind]}")


def _options(kind: str, query: str) -> dict[str, str]:
    named = parse_qsl(query, keep_blank_values=True)
    options, known = dict(named), _OPTIONS[kind]
    if bool(named) != bool(query) or len(options) < len(named) or not options.keys() <= known.keys():
        raise Unusable(f"sinks: behind the ? of {kind} may stand {', '.join(known)}, each once")
    for name, text in options.items():
        try:
            known[name](text)
        except ValueError as error:
            raise Unusable(f"sinks: {name} of {kind} {error}") from None
    return options


def _is_job_name(text: str) -> None:
    """Check a name that holds what a job is called, since messages do not say whose they are."""
    if not {"{id}", "{key}"} & set(_PLACEHOLDER.findall(text)):
        raise ValueError("must hold {id} or {key}, so that every job has one of its own")
    if not set(_PLACEHOLDER.findall(text)) <= _PLACEHOLDERS:
        raise ValueError("may hold {id}, {key} and {queue}, and no other braces")


def _is_count(text: str) -> None:
    if not text.isdecimal() or not 0 < int(text) <= COUNT_MAX:
        raise ValueError("must be a number from 1 up")


def _is_size(text: str) -> None:
    try:
        if parse_size(text) > 0:
            return
    except ValueError:
        pass
    raise ValueError("must be a size like 64MiB")


def _is_time(text: str) -> None:
    try:
        if 1 <= parse_duration(text) <= COUNT_MAX:
            return
    except ValueError:
        pass
    raise ValueError("must be a time like 7d")


def _is_database(text: str) -> None:
    if not text.isdecimal() or len(text) > 5:  # noqa: PLR2004 - digits enough for any
        raise ValueError("must be the number of a database")


_OPTIONS: dict[str, dict[str, Callable[[str], None]]] = {
    "redis": {
        "channel": _is_job_name,
        "stream": _is_job_name,
        "maxlen": _is_count,
        "keep": _is_time,
        "db": _is_database,
        "lag": _is_size,
    },
}
