"""What an answer over HTTP looks like, whichever way it was asked: JSON that no browser takes for a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from adapters.http.wire import Failure
from runner.errors import BadInput, Refused, RunnerError, Unavailable

if TYPE_CHECKING:
    from aiohttp import web
    from aiohttp.typedefs import Handler, Middleware

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'",
    "Referrer-Policy": "no-referrer",
}
"""A log may hold any bytes: whatever shows them is told that they are no page, and to keep the address to itself."""


def answer(document: object, status: int = 200) -> web.Response:
    """Return a document as JSON."""
    from aiohttp import web

    return web.Response(
        body=msgspec.json.encode(document), status=status, content_type="application/json", headers=HEADERS
    )


def failure(sentence: str, status: int, code: str = "error") -> web.Response:
    """Return why not."""
    return answer(Failure(sentence, code), status)


def failures() -> Middleware:
    """Answer every failure as a ``Failure``."""
    from aiohttp import web

    @web.middleware
    async def failures(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except RunnerError as error:
            return failure(str(error), _status(error), error.code)
        except msgspec.DecodeError as error:
            return failure(f"the request cannot be read: {error}", 400, BadInput.code)
        except web.HTTPException as error:
            return failure(f"{request.method} {request.path}: {error.reason}", error.status)

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
