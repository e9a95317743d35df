"""What may be asked of a running runner by whoever only reads: its health, its metrics, a job's log."""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

import runner
from adapters.http import events
from adapters.http.answers import HEADERS, answer
from adapters.http.follow import batches
from adapters.http.metrics import CONTENT_TYPE, metrics
from adapters.http.wire import Health
from runner.errors import BadInput, Refused
from runner.ports import Control, Journal, Position, Spool
from runner.receipt import end_of

if TYPE_CHECKING:
    from aiohttp import web

    from runner.job import Key
    from runner.receipt import Event


class ReadingRoutes:
    """One method a route."""

    def __init__(self, control: Control, journal: Journal, spool: Spool) -> None:
        """Ask the runner, and read beside it."""
        self._control = control
        self._journal = journal
        self._spool = spool
        # Requests that go on as long as a job does.
        self._followed: set[asyncio.Task[object]] = set()

    def table(self) -> list[web.RouteDef]:
        """Return the routes."""
        from aiohttp import web

        return [
            web.get("/health", self.health, allow_head=False),
            web.get("/metrics", self.metrics, allow_head=False),
            web.get("/jobs/{id}/log", self.log, allow_head=False),
        ]

    async def health(self, _: web.Request) -> web.StreamResponse:
        """Say that there is somebody."""
        return answer(Health(runner.__version__, os.getpid(), self._control.drains()))

    async def metrics(self, _: web.Request) -> web.StreamResponse:
        """Return the page that Prometheus reads."""
        from aiohttp import web

        headers = {**HEADERS, "Content-Type": CONTENT_TYPE}
        return web.Response(text=metrics(await self._control.sources()), headers=headers)

    async def log(self, request: web.Request) -> web.StreamResponse:
        """Send a log as events, to the end of the job unless ``follow=0``."""
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

        last_id = request.headers.get("Last-Event-ID") or request.query.get("last_event_id", "")
        if last_id == events.END_ID:
            return web.Response(status=204, headers=HEADERS)  # a browser comes again until it is told this
        position, follow = _position(last_id), _follows(request)
        entry = await self._journal.find(request.match_info["id"])
        if entry is None:
            raise Refused(f"no job {request.match_info['id']!r} on this box; list them with: runner ps --all")
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": events.CONTENT_TYPE})
        await response.prepare(request)
        async with aclosing(batches(self._journal, self._spool, entry.key, position, follow=follow)) as read:
            # Whoever reads may leave at any time.
            with suppress(ConnectionResetError):
                async for lines in read:
                    await response.write(b"".join(map(events.written, lines)) or events.ALIVE)
                await response.write(events.written_end(await self._end(entry.key)))
        return response

    async def _end(self, key: Key) -> Event | None:
        entry = await self._journal.entry(key)
        stored = entry.stored if entry is not None and entry.state == "ended" else None
        return end_of(stored.receipt) if stored is not None else None


def _position(last_id: str) -> Position:
    try:
        return events.behind(last_id)
    except ValueError as error:
        raise BadInput(str(error)) from error


def _follows(request: web.Request) -> bool:
    text = request.query.get("follow", "1")
    if text not in {"0", "1"}:
        raise BadInput(f"follow={text!r}: write 1 to go on until the job ended, 0 to read what there is")
    return text == "1"
