"""
The control socket of a running runner: HTTP on a Unix socket that only its owner and group may open.

It asks the runner through the ``Control`` port and reads logs from the spool; it never changes a job by itself.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from adapters.http.answers import answer, failures
from adapters.http.reading import ReadingRoutes
from adapters.http.wire import Sentence, StopWanted, connected, short_address
from runner.errors import ConfigurationError
from runner.ports import Control, Journal, Spool
from runner.units import format_duration

if TYPE_CHECKING:
    from aiohttp import web

MODE = 0o660
CLOSE_WITHIN_S = 1.0


@asynccontextmanager
async def open_control(path: Path, control: Control, journal: Journal, spool: Spool) -> AsyncIterator[None]:
    """
    Answer on the socket file ``path`` until left; a stale file is replaced.

    Raises:
        ConfigurationError: another runner answers there, or the file cannot be made.
    """
    from aiohttp import web

    listener = _listen(path)
    app = web.Application(middlewares=[failures()])
    reading = ReadingRoutes(control, journal, spool)
    app.add_routes([*_Routes(control).table(), *reading.table()])
    app.on_shutdown.append(reading.let_go)
    service = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=CLOSE_WITHIN_S)
    await service.setup()
    made = _inode(path)
    try:
        await web.SockSite(service, listener).start()
        yield
    finally:
        await service.cleanup()
        if _inode(path) == made:
            _remove(path)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _listen(path: Path) -> socket.socket:
    with suppress(OSError):
        connected(path, 1.0).close()
        raise ConfigurationError(
            f"{path}: another runner answers there; stop it with: runner drain --state-dir {path.parent}"
        )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        _bind(listener, path)
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"{path}: the control socket cannot be made: {error.strerror}") from error
    return listener


def _bind(listener: socket.socket, path: Path) -> None:
    """Bind under another name first, so that nobody connects before the modes are right."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    with short_address(fresh) as address:
        listener.bind(address)
    fresh.chmod(MODE)
    listener.listen()
    fresh.replace(path)


class _Routes:
    """One method a route."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def table(self) -> list[web.RouteDef]:
        from aiohttp import web

        return [
            web.get("/sources", self.sources),
            web.get("/gpus", self.gpus),
            web.post("/jobs/{id}/cancel", self.cancel),
            web.post("/drain", self.drain),
        ]

    async def sources(self, _: web.Request) -> web.StreamResponse:
        return answer(await self._control.sources())

    async def gpus(self, _: web.Request) -> web.StreamResponse:
        return answer(await self._control.gpus())

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        return answer(Sentence(await self._control.cancel(request.match_info["id"])))

    async def drain(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        wanted = msgspec.json.decode(body, type=StopWanted) if body else StopWanted()
        began = self._control.stop(leave=wanted.leave, grace_s=wanted.grace_s)
        return answer(Sentence(_stopping(wanted, began=began)))


def _stopping(wanted: StopWanted, *, began: bool) -> str:
    if wanted.leave:
        return "leaving: jobs run on, and the next start takes them back"
    if not began:
        return "hurried: what runs is stopped now; what is left when somebody drains once more is the next start's"
    grace = "the configured grace" if wanted.grace_s is None else format_duration(wanted.grace_s)
    return f"draining: no job is fetched any more; what runs has {grace}"
