"""
The control socket of a running runner: HTTP on a Unix socket that only its owner and group may open.

It asks the runner through the ``Control`` port and reads logs from the spool; it never changes a job by itself.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

import runner
from adapters.http.follow import records
from adapters.http.metrics import CONTENT_TYPE, metrics
from adapters.http.wire import Failure, Health, LogRecord, Sentence, StopWanted, connected, short_address
from runner.errors import BadInput, ConfigurationError, Refused, RunnerError, Unavailable
from runner.ports import Control, Journal, Position, Spool
from runner.units import format_duration

if TYPE_CHECKING:
    from aiohttp import web
    from aiohttp.typedefs import Handler, Middleware

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
    app = web.Application(middlewares=[_failures()])
    routes = _Routes(control, journal, spool)
    app.add_routes(routes.table())
    app.on_shutdown.append(routes.let_go)
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

    def __init__(self, control: Control, journal: Journal, spool: Spool) -> None:
        self._control = control
        self._journal = journal
        self._spool = spool
        # Requests that go on as long as a job does.
        self._followed: set[asyncio.Task[object]] = set()

    def table(self) -> list[web.RouteDef]:
        from aiohttp import web

        return [
            web.get("/health", self.health),
            web.get("/sources", self.sources),
            web.get("/gpus", self.gpus),
            web.get("/metrics", self.metrics),
            web.get("/jobs/{id}/log", self.log),
            web.post("/jobs/{id}/cancel", self.cancel),
            web.post("/drain", self.drain),
        ]

    async def health(self, _: web.Request) -> web.StreamResponse:
        return _answer(Health(runner.__version__, os.getpid(), self._control.drains()))

    async def sources(self, _: web.Request) -> web.StreamResponse:
        return _answer(await self._control.sources())

    async def gpus(self, _: web.Request) -> web.StreamResponse:
        return _answer(await self._control.gpus())

    async def metrics(self, _: web.Request) -> web.StreamResponse:
        from aiohttp import web

        return web.Response(text=metrics(await self._control.sources()), headers={"Content-Type": CONTENT_TYPE})

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        return _answer(Sentence(await self._control.cancel(request.match_info["id"])))

    async def drain(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        wanted = msgspec.json.decode(body, type=StopWanted) if body else StopWanted()
        began = self._control.stop(leave=wanted.leave, grace_s=wanted.grace_s)
        return _answer(Sentence(_stopping(wanted, began=began)))

    async def log(self, request: web.Request) -> web.StreamResponse:
        if (task := asyncio.current_task()) is not None:
            self._followed.add(task)
            task.add_done_callback(self._followed.discard)
        return await self._send_log(request)

    async def let_go(self, _: web.Application) -> None:
        """End those who follow a log: closing waits for nobody."""
        for task in self._followed:
            task.cancel()

    async def _send_log(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        job_id = request.match_info["id"]
        entry = await self._journal.find(job_id)
        if entry is None:
            raise Refused(f"no job {job_id!r} on this box; list them with: runner ps --all")
        position = Position(_number(request, "attempt", 1), _number(request, "sequence", 0))
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        # Whoever reads may leave at any time.
        follow = request.query.get("follow") == "1"
        async with aclosing(records(self._journal, self._spool, entry.key, position, follow=follow)) as told:
            with suppress(ConnectionResetError):
                async for record in told:
                    await response.write(msgspec.json.encode(record) + b"\n" if record else b"\n")
                await response.write(msgspec.json.encode(LogRecord(end=True)) + b"\n")
        return response


def _stopping(wanted: StopWanted, *, began: bool) -> str:
    if wanted.leave:
        return "leaving: jobs run on, and the next start takes them back"
    if not began:
        return "hurried: what runs is stopped now; what is left when somebody drains once more is the next start's"
    grace = "the configured grace" if wanted.grace_s is None else format_duration(wanted.grace_s)
    return f"draining: no job is fetched any more; what runs has {grace}"


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isascii() or not text.isdigit():
        raise BadInput(f"{name}={text!r} is no whole number")
    return int(text)


def _answer(document: object, status: int = 200) -> web.Response:
    from aiohttp import web

    return web.Response(body=msgspec.json.encode(document), status=status, content_type="application/json")


def _failures() -> Middleware:
    from aiohttp import web

    @web.middleware
    async def failures(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except RunnerError as error:
            return _answer(Failure(str(error), error.code), _status(error))
        except msgspec.DecodeError as error:
            return _answer(Failure(f"the request cannot be read: {error}", BadInput.code), 400)

    return failures


def _status(error: RunnerError) -> int:
    match error:
        case Refused():
            return 404
        case BadInput():
            return 400
        case Unavailable():
            return 503
        case _:
            return 500
