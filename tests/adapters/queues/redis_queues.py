"""Queues in Redis for tests: an open one, the database beside it, servers of a test's own."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from adapters.queues.redis import RedisBroker, RedisQueue
from runner.credential import Credential
from runner.job import Verdict
from runner.ports import Delivery
from runner.secret import Secret
from runner.units import Duration
from tests.services.daemon import Daemon, running
from tests.services.redis import answers, redis_command

BOX, OTHER_BOX = "box-1", "box-2"
LEASE_S = 60.0
QUEUE = "train"
INBOX = "{runner:train}"


def credential(
    url: str, *, lease_s: float = LEASE_S, secrets: Mapping[str, str] | None = None, ca_file: str = ""
) -> Credential:
    kept = {name: Secret(text) for name, text in (secrets or {}).items()}
    options = {"ca_file": ca_file} if ca_file else {}
    return Credential("redis", url, lease=Duration(lease_s), secrets=kept, options=options)


@asynccontextmanager
async def redis_broker(given: Credential | str, *, box: str = BOX) -> AsyncIterator[RedisBroker]:
    broker = RedisBroker(credential(given) if isinstance(given, str) else given, box_id=box, now=time.time)
    try:
        yield broker
    finally:
        await broker.close()


@asynccontextmanager
async def redis_queue(given: Credential | str, *, box: str = BOX, name: str = QUEUE) -> AsyncIterator[RedisQueue]:
    async with redis_broker(given, box=box) as broker:
        queue = await broker.open(name)
        try:
            yield queue
        finally:
            await queue.close()


@asynccontextmanager
async def database(url: str) -> AsyncIterator[Any]:
    """Connect as the administrator, and as foreign producers do; typed as loosely as the SDK is."""
    redis = Redis.from_url(url, protocol=2)
    try:
        yield redis
    finally:
        await redis.aclose()


async def fetched(queue: RedisQueue, wait_s: float = 0.0) -> Delivery:
    delivery = await queue.fetch(wait_s)
    assert delivery is not None
    return delivery


async def acknowledge(queue: RedisQueue, delivery: Delivery) -> None:
    await queue.settle(delivery.token, Verdict.ACK, after_s=0, note=delivery.note, reason="")


async def until_blocked(redis: Any) -> None:
    """Wait until a fetch is blocked in this database."""
    own = str(redis.connection_pool.connection_kwargs.get("db", 0))
    while not [client for client in await redis.client_list() if client["db"] == own and "b" in client["flags"]]:
        await asyncio.sleep(0)


@contextmanager
def server(directory: Path, port: int, *options: str) -> Iterator[int]:
    """Start a server of a test's own, with options of its configuration; give its pid."""
    daemon = Daemon(
        command=[*redis_command(directory, port), *options],
        environment=dict(os.environ),
        log=directory / "redis.log",
        ready=lambda: answers(port),
        stop_timeout_s=5.0,
    )
    with running(daemon) as pid:
        yield pid


def kill(pid: int, port: int) -> None:
    """End a server as a power cut does, and wait until nothing listens any more."""
    os.kill(pid, signal.SIGKILL)
    while answers(port):
        time.sleep(0.01)
