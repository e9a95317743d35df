"""
A long call to the engine (pull, build, push) as the events that it answers with, one JSON document a line.

The engine says 200 and begins; what goes wrong after that stands in an event.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing
from typing import Any

import msgspec

from adapters.containers.docker_engine import Engine, EngineRefusal, Sent
from runner.credential import RegistryLogin
from runner.errors import Unavailable

LINE_MAX_BYTES = 16 << 20
_NO_STATUS = 500


class Amounts(msgspec.Struct, frozen=True):
    """How far a layer is, in bytes."""

    current: int = 0
    total: int = 0


class Problem(msgspec.Struct, frozen=True):
    """Why it ended."""

    message: str = ""
    code: int = _NO_STATUS


class EngineEvent(msgspec.Struct, frozen=True):
    """One event; which fields are set depends on the call."""

    status: str = ""
    id: str = ""
    stream: str = ""
    error: str = ""
    amounts: Amounts = msgspec.field(name="progressDetail", default=Amounts())
    problem: Problem | None = msgspec.field(name="errorDetail", default=None)
    aux: dict[str, Any] | None = None


class LongCall(msgspec.Struct, frozen=True):
    """What to ask: ``what`` in words; ``begin_s`` until the first answer, ``silent_s`` between any two."""

    what: str
    path: str
    silent_s: float
    begin_s: float
    query: dict[str, str | int] = {}
    headers: dict[str, str] = {}


async def events(
    engine: Engine, call: LongCall, body: AsyncIterator[bytes] | None = None
) -> AsyncGenerator[EngineEvent, None]:
    """
    Post, and yield what the engine tells; leaving early ends the call at the engine, too.

    Raises:
        EngineRefusal: it could not be done, in the engine's own words.
        OutOfSpace: the engine's disk is full.
        Unavailable: it did not answer, or went silent.
    """
    async with AsyncExitStack() as opened:
        try:
            async with engine.call(call.what, call.begin_s) as docker:
                sending = engine.send(docker, "POST", call.path, Sent(call.headers, body), **call.query)
                answer = await opened.enter_async_context(sending)
        except EngineRefusal as refusal:
            raise engine.translated(refusal.status, refusal.words, call.what) from refusal
        async with aclosing(_lines(engine, call, answer)) as lines:
            async for line in lines:
                event = _decoded(line, engine.url)
                if event.error or event.problem is not None:
                    problem = event.problem or Problem(event.error)
                    raise engine.translated(problem.code, problem.message or event.error, call.what)
                yield event


async def _lines(engine: Engine, call: LongCall, answer: Any) -> AsyncGenerator[bytes, None]:
    pending = bytearray()
    while True:
        async with engine.call(f"go on to {call.what}", call.silent_s):
            data = await answer.content.readany()
        if not data:
            break
        pending += data
        *whole, rest = pending.split(b"\n")
        pending = bytearray(rest)
        for line in whole:
            if line.strip():
                yield bytes(line)
        if len(pending) > LINE_MAX_BYTES:
            raise Unavailable(f"Docker at {engine.url} answered with an endless line as it was to {call.what}")
    if pending.strip():
        yield bytes(pending)


def _decoded(line: bytes, url: str) -> EngineEvent:
    try:
        return msgspec.json.decode(line, type=EngineEvent, strict=False)
    except msgspec.MsgspecError as error:
        raise Unavailable(f"what listens at {url} does not answer as a Docker engine does: {error}") from error


def login_header(login: RegistryLogin | None) -> Mapping[str, str]:
    """Return the header by which the engine logs in at a registry."""
    told: dict[str, str] = {}
    if login is not None:
        told = {"serveraddress": login.place.partition("/")[0]}
        if token := login.token.reveal():
            told["identitytoken"] = token
        else:
            told |= {"username": login.username, "password": login.password.reveal()}
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(told).encode()).decode()}
