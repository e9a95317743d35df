"""
HTTP on a port of this machine, for those who only read: health, metrics, logs.

Whoever asks shows a token, which the first start makes and leaves in a file of the runner's user. There are no CORS
headers, so that pages of other origins read nothing, also under a name that leads here: they have no token.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.files import create_whole, explained
from adapters.http.answers import failure, failures
from adapters.http.reading import ReadingRoutes
from runner.errors import ConfigurationError, Unavailable
from runner.ports import Control, Journal, Spool

if TYPE_CHECKING:
    from aiohttp import web
    from aiohttp.typedefs import Handler, Middleware

log = logging.getLogger(__name__)

TOKEN_BYTES = 32
BACKLOG = 128
CLOSE_WITHIN_S = 1.0


def load_token(path: Path) -> str:
    """
    Return the token that stands in a file, which is made where there is none.

    Raises:
        ConfigurationError: what stands there is none, or others can read it.
    """
    with explained("making the token of listen", str(path)):
        create_whole(str(path), secrets.token_urlsafe(TOKEN_BYTES).encode() + b"\n")
        token, mode = path.read_text("ascii", "replace").strip(), path.stat().st_mode
    if mode & 0o077:
        raise ConfigurationError(f"{path}: others than its owner can use this token: chmod 600 it, or delete it")
    if len(token) < TOKEN_BYTES or not token.isascii() or not token.isprintable():
        raise ConfigurationError(f"{path}: no token of at least {TOKEN_BYTES} letters stands there: delete it")
    return token


def open_listener(host: str, port: int) -> socket.socket:
    """
    Take a port before anything else is begun; host "" is every address, of both kinds where there are both.

    Raises:
        Unavailable: it is taken, or not this machine's.
    """
    both = not host and socket.has_dualstack_ipv6()
    kind = socket.AF_INET6 if both or ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=kind, backlog=BACKLOG, dualstack_ipv6=both)
    except OSError as error:
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        fix = "free it, or give listen another port" if port else "give listen an address of this machine"
        raise Unavailable(f"listen at {where}: {os.strerror(error.errno or 0)}: {fix}") from error


@asynccontextmanager
async def open_http(
    listener: socket.socket, token_file: Path, control: Control, journal: Journal, spool: Spool
) -> AsyncIterator[None]:
    """Answer there until left; the listener is closed with it."""
    from aiohttp import web

    app = web.Application(middlewares=[failures(), _guard(token_file)])
    reading = ReadingRoutes(control, journal, spool)
    app.add_routes(reading.table())
    app.on_shutdown.append(reading.let_go)
    service = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=CLOSE_WITHIN_S)
    await service.setup()
    _tell(listener, token_file)
    try:
        await web.SockSite(service, listener).start()
        yield
    finally:
        await service.cleanup()


def _tell(listener: socket.socket, token_file: Path) -> None:
    host, port = listener.getsockname()[:2]
    facts = {"action": "listen", "address": host, "port": port, "token_file": str(token_file)}
    if ipaddress.ip_address(host).is_loopback:
        log.info("logs and metrics can be read over HTTP", extra=facts)
    else:
        log.warning("logs and metrics can be read over HTTP, by all who see its token pass on the network", extra=facts)


def _guard(token_file: Path) -> Middleware:
    """Let nobody in without the token, whatever is asked for."""
    from aiohttp import web

    token = load_token(token_file).encode()
    needed = (
        f"this needs the token that stands in {token_file.name} of the runner's state directory: send it as "
        "Authorization: Bearer TOKEN, or as ?token=TOKEN"
    )

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if any(hmac.compare_digest(token, shown) for shown in _shown(request)):
            return await handler(request)
        refused = failure(needed, 401, "unauthorized")
        refused.headers["WWW-Authenticate"] = 'Bearer realm="runner"'
        return refused

    return guard


def _shown(request: web.Request) -> tuple[bytes, ...]:
    """Return the tokens that a request shows, as bytes of any kind."""
    scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
    header = (sent.strip(),) if scheme.lower() == "bearer" else ()
    return tuple(text.encode("utf-8", "surrogatepass") for text in (*header, *request.query.getall("token", ())))
