"""
URLs of sinks: with user and password taken out, and checked for what they may say.

Pure. No sentence here holds any part of a URL, since a password may stand anywhere in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import msgspec

from adapters.credential_urls import has_host, parsed_url
from adapters.sinks.templates import is_per_job, unknown_braces
from adapters.unusable import Unusable
from runner.secret import Secret
from runner.units import parse_duration, parse_size

KINDS = {
    "redis": "redis",
    "rediss": "redis",
    "unix": "redis",
    "file": "file",
    "syslog": "syslog",
    "journald": "journald",
}
"""The kind of sink that a URL of this scheme names."""
_FORMS = {
    "redis": "write redis://HOST:PORT/DB?channel=NAME&stream=NAME, rediss://… or unix:///PATH?db=0",
    "file": "write file:///DIRECTORY/{id}.log, with no .. in it",
    "syslog": "write syslog:///dev/log or syslog://HOST:514",
    "journald": "write journald:",
}
_DATABASE = re.compile(r"(/\d{0,5})?")
_TUNING = frozenset({"lag", "maxlen", "keep", "rotate"})
"""Other values of these make no other sink."""
COUNT_MAX = 10**9
FILES_MAX = 999


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
    def path(self) -> str:
        """The path on this box, decoded."""
        return unquote(urlsplit(self.place).path)

    @property
    def host(self) -> tuple[str, int | None]:
        """The host and the port that it names."""
        found = urlsplit(self.place)
        return found.hostname or "", found.port

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
    if "db" in options and found.scheme != "unix":
        raise Unusable("sinks: db is for unix://: write the database behind the host, as in redis://HOST:PORT/DB")
    login, _, host = found.netloc.rpartition("@")
    username, _, password = login.partition(":")
    place = f"{found.scheme}://{host}{found.path}" if host or found.path else f"{found.scheme}:"
    url = f"{place}?{found.query}" if found.query else place
    return SinkUrl(kind, url, place, options, unquote(username), unquote(password))


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
    local = not found.netloc.rpartition("@")[2]
    match kind:
        case "redis" if found.scheme != "unix":
            fits = has_host(found) and bool(_DATABASE.fullmatch(found.path))
        case "syslog" if not local:
            fits = has_host(found) and found.path in {"", "/"}
        case "journald":
            fits = local and (not found.path or _is_file(found.path))
        case _:
            fits = local and _is_file(found.path)
    if not fits or (kind != "redis" and "@" in found.netloc) or unknown_braces(found.path):
        raise Unusable(f"sinks: {_FORMS[kind]}")


def _is_file(path: str) -> bool:
    names = unquote(path).split("/")
    return path.startswith("/") and bool(names[-1]) and not {".", ".."} & set(names) and "\0" not in unquote(path)


def _options(kind: str, query: str) -> dict[str, str]:
    named = parse_qsl(query, keep_blank_values=True)
    options, known = dict(named), OPTIONS[kind]
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
    if not is_per_job(text):
        raise ValueError("must hold {id} or {key}, so that every job has one of its own")
    if unknown_braces(text):
        raise ValueError("may hold {id}, {key} and {queue}, and no other braces")


def _is_format(text: str) -> None:
    if text not in {"text", "json"}:
        raise ValueError("must be text or json")


def _is_count(text: str) -> None:
    if not text.isdecimal() or not 0 < int(text) <= COUNT_MAX:
        raise ValueError("must be a number from 1 up")


def _is_files(text: str) -> None:
    if not text.isdecimal() or not 0 < int(text) <= FILES_MAX:
        raise ValueError(f"must be a number of files from 1 to {FILES_MAX}")


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


OPTIONS: dict[str, dict[str, Callable[[str], None]]] = {
    "redis": {
        "channel": _is_job_name,
        "stream": _is_job_name,
        "maxlen": _is_count,
        "keep": _is_time,
        "db": _is_database,
        "lag": _is_size,
    },
    "file": {"format": _is_format, "rotate": _is_size, "keep": _is_files, "lag": _is_size},
    "syslog": {"lag": _is_size},
    "journald": {"lag": _is_size},
}
"""What may stand behind the ``?`` of each kind, and its check."""
