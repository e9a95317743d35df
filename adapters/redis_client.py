"""
Connections to one Redis: opened from a URL, secrets and options, every call bounded, every error in words.

Retries nothing; a pooled connection that died while it was idle is opened anew. Secrets never stand in a URL, nor in
the text of an error.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from adapters.unreached import unreached
from runner.errors import ConfigurationError, OutOfSpace, Refused, RunnerError, Unavailable
from runner.secret import Secret

CALL_S = 10.0
CONNECT_S = 5.0
CLOSE_S = 2.0
CALLS_MAX = 16
"""Connections of ordinary calls; more of them wait for one."""
WAITS_MAX = 1000
"""Connections on which the server makes somebody wait: one each."""
PORT = 6379
PREFIX = "runner"
SCHEMES = ("redis", "rediss")
PORT_MAX = 65535


@dataclass(frozen=True)
class RedisPlace:
    """What a URL names; ``queue`` is empty where it names none, and ``prefix`` begins every key."""

    host: str
    port: int
    database: int
    tls: bool
    queue: str = ""
    prefix: str = PREFIX
    socket: str = ""
    """The path of its Unix socket, where it is reached by one."""

    @property
    def url(self) -> str:
        """The server and the database, to be shown."""
        if self.socket:
            return f"unix://{self.socket}?db={self.database}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{host}:{self.port}/{self.database}"


def redis_place(url: str) -> RedisPlace:
    """
    Read ``redis://host:6379/0?queue=train``, or ``rediss://`` for TLS; ``prefix=`` may follow. Or ``unix:///path?db=0``.

    Raises:
        ConfigurationError: it is no such URL, or holds a user or a password.
    """
    try:
        parts = urlsplit(url)
        port, host = parts.port or PORT, parts.hostname or ""
        query = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query), errors="surrogateescape"))
    except ValueError:
        raise _no_url() from None
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError("a Redis URL holds a user or a password: write them as username and password")
    if parts.scheme == "unix":
        return _socket_place(parts.path, query)
    path, queue, prefix = parts.path.strip("/"), query.pop("queue", ""), query.pop("prefix", PREFIX)
    if parts.scheme not in SCHEMES or not host or query or parts.fragment or not (path or "0").isdecimal():
        raise _no_url()
    return RedisPlace(host, port, int(path or "0"), parts.scheme == "rediss", queue, prefix)


def _socket_place(path: str, query: Mapping[str, str]) -> RedisPlace:
    database = query.get("db", "0")
    if not path.startswith("/") or query.keys() - {"db"} or not database.isdecimal():
        raise _no_url()
    return RedisPlace("", 0, int(database), tls=False, socket=unquote(path))


def _no_url() -> ConfigurationError:
    return ConfigurationError("no such Redis URL: write redis://host:6379/0?queue=NAME, or rediss:// for TLS")


def key_start(prefix: str, queue: str) -> str:
    """Return what all keys of a queue begin with; up to ``}`` it is the hash tag, so a cluster keeps them together."""
    return f"{{{prefix}:{quote(queue, safe='', errors='surrogateescape')}}}:"


class Script:
    """A Lua script, sent once to a server and called by its digest."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class RedisClient:
    """
    One Redis server as one user; nothing is opened before the first call.

    ``secrets`` may hold ``username`` and ``password``, ``options`` a ``ca_file``.

    Raises:
        ConfigurationError: the URL or the ``ca_file`` cannot be used.
    """

    def __init__(self, url: str, secrets: Mapping[str, Secret], options: Mapping[str, str]) -> None:
        self.place = redis_place(url)
        self._ca_file = options.get("ca_file", "")
        if self._ca_file and not os.path.isfile(self._ca_file):
            raise ConfigurationError(f"{self.place.url}: ca_file {self._ca_file}: no such file")
        self._secrets = dict(secrets)
        self._calls, self._waits = self._open()

    async def call(self, doing: str, *command: Any, limit_s: float = CALL_S) -> Any:
        """
        Run one command and return its answer as bytes, numbers and lists of them.

        Raises:
            Unavailable: the server did not answer, or not in time, or cannot now.
            OutOfSpace: it has no memory left, or cannot write to its disk.
            ConfigurationError: it does not know the user or the password, or the user may not do this.
            Refused: it answered anything else.
        """
        async with self.calling(doing, limit_s=limit_s) as redis:
            return await redis.execute_command(*command)

    async def run(self, doing: str, script: Script, keys: Sequence[Any], arguments: Sequence[Any] = ()) -> Any:
        """Run a script at once as a whole; raises what ``call`` does."""
        from redis.exceptions import NoScriptError

        async with self.calling(doing) as redis:
            try:
                return await redis.execute_command("EVALSHA", script.digest, len(keys), *keys, *arguments)
            except NoScriptError:
                return await redis.execute_command("EVAL", script.text, len(keys), *keys, *arguments)

    async def wait(self, doing: str, *command: Any, wait_s: float) -> Any:
        """Run a command that the server may answer only after ``wait_s``, on a connection for such ones alone."""
        async with self._bounded(doing, self._waits, wait_s + CALL_S) as redis:
            return await redis.execute_command(*command)

    @asynccontextmanager
    async def calling(self, doing: str, *, limit_s: float = CALL_S) -> AsyncIterator[Any]:
        """Give the SDK's client for calls that end within ``limit_s`` all together; raises what ``call`` does."""
        async with self._bounded(doing, self._calls, limit_s) as redis:
            yield redis

    async def change(self, secrets: Mapping[str, Secret]) -> None:
        """Open new connections with other secrets; one that is in use is closed when its call ends."""
        if dict(secrets) == self._secrets:
            return
        old = self._calls, self._waits
        self._secrets = dict(secrets)
        self._calls, self._waits = self._open()
        for redis in old:
            await redis.connection_pool.update_active_connections_for_reconnect()
            await _closed(redis.connection_pool, in_use=False)

    async def close(self) -> None:
        """Close every connection; idempotent."""
        for redis in (self._calls, self._waits):
            await _closed(redis.connection_pool, in_use=True)

    @asynccontextmanager
    async def _bounded(self, doing: str, redis: Any, limit_s: float) -> AsyncIterator[Any]:
        from redis.exceptions import RedisError

        try:
            async with asyncio.timeout(limit_s):
                yield redis
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            raise self._explained(doing, error) from (None if self._tells_secret(error) else error)

    def _open(self) -> tuple[Any, Any]:
        from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis

        settings = self._settings()
        calls = BlockingConnectionPool(max_connections=CALLS_MAX, timeout=None, **settings)
        waits = ConnectionPool(max_connections=WAITS_MAX, **settings)
        return Redis(connection_pool=calls), Redis(connection_pool=waits)

    def _settings(self) -> dict[str, Any]:
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        place, secrets = self.place, {name: secret.reveal() for name, secret in self._secrets.items()}
        tls = {"ssl_ca_certs": self._ca_file or None} if place.tls else {}
        server = {"path": place.socket} if place.socket else {"host": place.host, "port": place.port}
        return {
            "connection_class": _connection_class(place),
            **server,
            "db": place.database,
            "username": secrets.get("username") or None,
            "password": secrets.get("password") or None,
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            "socket_connect_timeout": CONNECT_S,
            "socket_timeout": None,  # each call has its own limit, and waits have longer ones
            "driver_info": None,
            **tls,
        }

    def _tells_secret(self, error: Exception) -> bool:
        password = self._secrets.get("password")
        return password is not None and password.reveal() != "" and password.reveal() in str(error)

    def _explained(self, doing: str, error: Exception) -> RunnerError:
        said = "it repeated a secret" if self._tells_secret(error) else (str(error).rstrip(".") or type(error).__name__)
        return explain(error, f"{doing}: {self.place.url}", said)


def explain(error: Exception, what: str, said: str) -> RunnerError:
    """Return the error that the rest of the house understands; ``said`` is the server's text without secrets."""
    from redis import exceptions

    match error:
        case exceptions.AuthenticationError() | exceptions.NoPermissionError() | exceptions.AuthorizationError():
            return _not_allowed(error, what, said)
        case exceptions.OutOfMemoryError():
            return OutOfSpace(f"{what}: its memory is used up: raise maxmemory, or keep less")
        case exceptions.TimeoutError() | TimeoutError():
            return Unavailable(f"{what}: no answer in time: check that it runs and can be reached")
        case exceptions.ReadOnlyError() | exceptions.TryAgainError() | exceptions.ClusterDownError():
            return Unavailable(f"{what}: {said}: it cannot be written to now")
        case exceptions.MovedError() | exceptions.AskError():
            return ConfigurationError(f"{what}: another server of its cluster has this queue ({said}): name that one")
        case exceptions.ResponseError() | exceptions.DataError():
            return _refused(what, said)
        case exceptions.InvalidResponse():
            return Unavailable(f"{what}: what answers there is no Redis: check host and port")
        case _:
            return _not_reached(f"{what}: {unreached(error) or said}")


def _not_allowed(error: Exception, what: str, said: str) -> RunnerError:
    from redis import exceptions

    if not isinstance(error, exceptions.AuthenticationError):
        return ConfigurationError(f"{what}: {said}: check the user name, and what that user may do")
    if "without any password" in said:
        return ConfigurationError(f"{what}: its default user has no password: leave it out, or name the user, too")
    return ConfigurationError(f"{what}: it refuses the login ({said}): check username and password")


def _refused(what: str, said: str) -> RunnerError:
    if said.startswith(("MISCONF", "MASTERDOWN", "BUSY ", "LOADING", "NOREPLICAS")):
        return Unavailable(f"{what}: {said}")
    if "DB index is out of range" in said:
        return ConfigurationError(f"{what}: it has no database of this number: name another, like /0")
    return Refused(f"{what}: {said}")


def _not_reached(text: str) -> RunnerError:
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return ConfigurationError(f"{text}: name the authority as ca_file, and the host as it is certified")
    return Unavailable(f"{text}: check that it runs and can be reached")


def _connection_class(place: RedisPlace) -> type[Any]:
    """Return a connection that knows that it was reset while it was idle, which the SDK's own takes for alive."""
    from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
    from redis.exceptions import ConnectionError as Disconnected

    kind: type[Any] = UnixDomainSocketConnection if place.socket else SSLConnection if place.tls else Connection

    class Watched(kind):  # type: ignore[misc]  # one of three classes of the SDK
        async def can_read(self) -> bool:
            if self._reader is not None and self._reader.exception() is not None:
                raise Disconnected("reset while it was idle")
            return bool(await super().can_read())

    return Watched


async def _closed(pool: Any, *, in_use: bool) -> None:
    """Close a pool's connections; what does not close in time is left to the system."""
    try:
        async with asyncio.timeout(CLOSE_S):
            await pool.disconnect(inuse_connections=in_use)
    except OSError:
        return
