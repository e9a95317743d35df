"""
An image build on a Docker engine: sealed as far as the engine's own builder can be, and told line by line.

Its steps have no GPU and no network but the one that they are given; memory and processors are limited. What the
builder cannot be told: who its steps run as, how many processes they start, how much disk they fill.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, Protocol

import msgspec

from adapters.containers.docker_engine import Engine, EngineRefusal, decoded, shortened
from adapters.containers.docker_stream import EngineEvent, LongCall, events
from adapters.files import explained
from runner.errors import Refused, RuntimeMissing
from runner.ports import BuildOrder

BUILD_S = 86400.0
"""A step may be silent for as long as it likes; whoever asked for the build limits it."""
BLOCK_BYTES = 1 << 20
LAST_LINES, LAST_LINE_CHARACTERS = 5, 200
HOLD_EVERY_S = 4.0
CLASSIC = 1
"""The engine's builder of that number: the other one runs steps where these limits do not reach."""
NO_NETWORK = "none"
_MALFORMED = 400
_COLOUR = re.compile(r"\x1b\[\d*m")
"""The engine prints what a step wrote to stderr in red."""
_OF_THE_ENGINE = (" ---> ", "Removing intermediate container")
_PERIOD_US = 100_000


class Networks(Protocol):
    """Networks of the box on the engine, filtered."""

    def name_of(self, network: str) -> str:
        """Return what the engine calls a network."""
        ...

    async def prepare(self, network: str, user: object) -> None:
        """See to it that a network is there and filtered, until its user lets it go."""
        ...

    async def let_go(self, user: object, network: str) -> None:
        """Take it away where this was the last user."""
        ...

    async def hold(self, network: str) -> None:
        """See to it that it stays so; asked often, it looks every few seconds."""
        ...


class _Runtime(msgspec.Struct, frozen=True):
    name: str = msgspec.field(name="DefaultRuntime", default="")


async def build(engine: Engine, order: BuildOrder, networks: Networks | None, progress: Callable[[str], None]) -> None:
    """
    Build, and name the result.

    Raises:
        Refused: the Dockerfile cannot be built; with the engine's words and the last lines.
        OutOfSpace, Unavailable: the engine could not.
    """
    await _check_runtime(engine)
    last, began = deque[str](maxlen=LAST_LINES), False
    try:
        async with (
            _network(order.network, networks) as network,
            aclosing(events(engine, _call(order, network), _body(order.context))) as told,
        ):
            async for event in told:
                began = True
                for line in _lines(event):
                    progress(line)
                    if not line.startswith(_OF_THE_ENGINE):
                        last.append(shortened(line, LAST_LINE_CHARACTERS))
    except EngineRefusal as refusal:
        if not began and refusal.status != _MALFORMED:
            raise
        said = f"; it said last: {' | '.join(last)}" if last else ""
        raise Refused(f"the Dockerfile cannot be built: {refusal.words}{said}") from refusal


def _lines(event: EngineEvent) -> list[str]:
    return [line for line in _COLOUR.sub("", event.stream).replace("\r", "\n").split("\n") if line.strip()]


async def _check_runtime(engine: Engine) -> None:
    """Build nothing where the engine's usual runtime would give the steps whatever GPUs they ask for."""
    async with engine.call("describe itself") as docker:
        described: Any = await docker.system.info()
    name = decoded(described, _Runtime, engine.url).name
    if "nvidia" in name.lower():
        raise RuntimeMissing(
            f"no image is built here: the engine's default runtime is {name}, which gives GPUs to whatever asks; set "
            '"default-runtime": "runc" in its daemon.json'
        )


@asynccontextmanager
async def _network(network: str, networks: Networks | None) -> AsyncIterator[str]:
    """Give what the engine calls a network, filtered for as long as it takes."""
    if network == NO_NETWORK:
        yield NO_NETWORK
        return
    if networks is None:
        raise RuntimeMissing(f"network {network}: this box has none for image builds")
    user = object()
    await networks.prepare(network, user)
    holding = asyncio.ensure_future(_hold(network, networks))
    try:
        yield networks.name_of(network)
    finally:
        holding.cancel()
        await asyncio.wait({holding})
        await networks.let_go(user, network)


async def _hold(network: str, networks: Networks) -> None:
    while True:
        await networks.hold(network)
        await asyncio.sleep(HOLD_EVERY_S)


def _call(order: BuildOrder, network: str) -> LongCall:
    query: dict[str, str | int] = {
        "dockerfile": order.dockerfile,
        "t": order.name,
        "version": CLASSIC,
        "networkmode": network,
        "memory": order.memory,
        "memswap": order.memory,
        "cpuperiod": _PERIOD_US,
        "cpuquota": max(1000, round(order.cpus * _PERIOD_US)),
        "ulimits": json.dumps([{"Name": "core", "Soft": 0, "Hard": 0}]),
        "rm": 1,
        "forcerm": 1,
    }
    headers = {"Content-Type": "application/x-tar"}
    return LongCall(f"build image {order.name}", "build", BUILD_S, BUILD_S, query, headers)


async def _body(path: str) -> AsyncGenerator[bytes, None]:
    with explained("reading what is to be built", path):
        file = await asyncio.to_thread(open, path, "rb")
    try:
        while block := await asyncio.to_thread(file.read, BLOCK_BYTES):
            yield block
    finally:
        file.close()
