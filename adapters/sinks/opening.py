"""Opens the sinks of a queue by their URLs: those of its credential file and those of the whole box."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from adapters.redis_client import RedisClient, redis_place
from adapters.sinks.results import ResultsSink
from adapters.sinks.urls import SinkUrl, secrets_of, sink_url, sink_urls
from adapters.unusable import Unusable
from runner.credential import Credential
from runner.errors import ConfigurationError
from runner.ports import Dialect, Results, Sink
from runner.secret import Secret

SYSLOG_PORT = 514
JOURNAL_SOCKET = "/run/systemd/journal/socket"


class Place(msgspec.Struct, frozen=True):
    """What a sink is opened for; ``secrets`` are those of its own URL."""

    credential: Credential
    queue: str
    box_id: str
    dialect: Dialect
    secrets: dict[str, Secret]


def box_sinks(texts: Iterable[str]) -> tuple[SinkUrl, ...]:
    """
    Read the sinks of the whole box.

    Raises:
        ConfigurationError: one of them cannot be used, or holds a secret.
    """
    try:
        found = sink_urls(texts)
    except Unusable as error:
        raise ConfigurationError(f"configuration: {error}") from None
    if any(sink.username or sink.password for sink in found):
        raise ConfigurationError(
            "configuration: sinks holds a user or a password: write that sink into the credential file of its queue, "
            "since this configuration is no place for secrets"
        )
    return found


def open_sinks(
    box: Iterable[SinkUrl],
    dialects: Mapping[str, Dialect],
    credential: Credential,
    queue: str,
    results: Results | None,
    *,
    box_id: str = "",
) -> dict[str, Sink]:
    """Open the sinks of one queue by name: its result backend, those of its file, those of the box."""
    sinks: dict[str, Sink] = {} if results is None else {"results": ResultsSink(results)}
    urls = {url.name: url for url in (*box, *map(sink_url, credential.rights.sinks))}
    for name, url in urls.items():
        secrets = secrets_of(url, credential.secrets)
        place = Place(credential, queue, box_id, dialects[credential.rights.dialect], secrets)
        sinks[name] = SINKS[url.kind](url, place)
    return sinks


def _redis(url: SinkUrl, place: Place) -> Sink:
    from adapters.sinks.redis import Names, RedisSink

    server = f"{url.place}?db={url.options.get('db', 0)}" if url.place.startswith("unix:") else url.place
    secrets = place.secrets or _own_login(server, place.credential)

    def connect() -> RedisClient:
        return RedisClient(server, secrets, place.credential.options)

    return RedisSink(connect, Names.of(url, place.queue, place.box_id), place.dialect, url.lag_max_bytes)


def _own_login(server: str, credential: Credential) -> dict[str, Secret]:
    """Return the login of the queue, where the same server has it."""
    if credential.kind != "redis":
        return {}
    own, other = redis_place(credential.url), redis_place(server)
    if (own.host, own.port, own.tls) != (other.host, other.port, other.tls):
        return {}
    return {name: secret for name, secret in credential.secrets.items() if name in {"username", "password"}}


def _file(url: SinkUrl, place: Place) -> Sink:
    from adapters.sinks.files import Files, FileSink

    return FileSink(Files.of(url, place.queue), url.lag_max_bytes)


def _syslog(url: SinkUrl, place: Place) -> Sink:  # noqa: ARG001 - of all openers
    import socket

    from adapters.sinks.datagram_sink import DatagramSink
    from adapters.sinks.datagrams import Datagrams
    from adapters.sinks.syslog_text import SyslogForm

    host, port = url.host
    datagrams = Datagrams(host=host, port=port or SYSLOG_PORT) if host else Datagrams(url.path)
    return DatagramSink(datagrams, SyslogForm(socket.gethostname() if host else ""), url.lag_max_bytes)


def _journald(url: SinkUrl, place: Place) -> Sink:
    from adapters.sinks.datagram_sink import DatagramSink
    from adapters.sinks.datagrams import Datagrams
    from adapters.sinks.journal_entries import JournalForm

    return DatagramSink(Datagrams(url.path or JOURNAL_SOCKET), JournalForm(place.queue), url.lag_max_bytes)


SINKS: dict[str, Callable[[SinkUrl, Place], Sink]] = {
    "redis": _redis,
    "file": _file,
    "syslog": _syslog,
    "journald": _journald,
}
"""By kind."""
