"""A look at a Docker engine for `doctor`: its version, and whose containers it runs. Blocking; changes nothing."""

from __future__ import annotations

import http.client
import json
import socket
from typing import TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from adapters.containers.docker_state import LABEL_BOX, Engineered
from adapters.containers.podman import Component, why_refused
from runner.errors import RuntimeMissing, Unavailable

T = TypeVar("T")
ANSWER_WITHIN_S = 5.0


class _Version(msgspec.Struct, frozen=True):
    version: str = msgspec.field(name="Version")
    components: tuple[Component, ...] = msgspec.field(name="Components", default=())


class _Listed(msgspec.Struct, frozen=True):
    names: tuple[str, ...] = msgspec.field(name="Names", default=())
    labels: dict[str, str] = msgspec.field(name="Labels", default_factory=dict)


def engine_version(url: str) -> str:
    """
    Return the engine's version.

    Raises:
        Unavailable: nobody answers at this URL within five seconds.
        RuntimeMissing: what answers is none that jobs can be run by.
    """
    found = look(url, "/version", _Version)
    if refused := why_refused(found.components, url):
        raise RuntimeMissing(refused)
    return found.version


def engine_runtimes(url: str) -> frozenset[str]:
    """
    Name the runtimes that the engine has for containers.

    Raises:
        Unavailable: as above.
    """
    return frozenset(look(url, "/info", Engineered).runtimes)


def containers_of_others(url: str, box: str) -> tuple[str, ...]:
    """
    Name the containers that a runner of another box, or of another state directory, started; sorted.

    Raises:
        Unavailable: as above.
    """
    filters = quote(json.dumps({"label": [LABEL_BOX]}))
    listed = look(url, f"/containers/json?all=1&filters={filters}", tuple[_Listed, ...])
    return tuple(sorted(it.names[0].lstrip("/") for it in listed if it.labels.get(LABEL_BOX) != box and it.names))


def look(url: str, path: str, kind: type[T], limit_s: float = ANSWER_WITHIN_S) -> T:
    """
    Return what the engine answers.

    Raises:
        Unavailable: nobody answers at this URL, or not in time, or it is no engine.
    """
    connection = _connection(url, limit_s)
    try:
        connection.request("GET", path)
        with connection.getresponse() as response:
            return msgspec.json.decode(response.read(), type=kind)
    except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
        raise Unavailable(f"no Docker engine answers at {url}: {error}") from error
    finally:
        connection.close()


def _connection(url: str, limit_s: float) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return _UnixConnection(parts.path, limit_s)
    return http.client.HTTPConnection(parts.hostname or "localhost", parts.port or 2375, timeout=limit_s)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, limit_s: float) -> None:
        super().__init__("docker", timeout=limit_s)
        self._path, self._limit_s = path, limit_s

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.sock.settimeout(self._limit_s)
        self.sock.connect(self._path)
