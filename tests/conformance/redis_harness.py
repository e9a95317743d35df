"""Queues in a real Redis, in a database of this process's own; time passes by moving what the database says."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from adapters.queues.redis import RedisBroker
from runner.credential import Credential
from runner.ports import Broker
from runner.units import Duration
from tests.conformance.queue_harness import BOX, START_AT

ABSENT = "no Redis: run `make test`, or `python -m tests.services redis -- pytest …`"


def redis_url() -> str:
    """Return the URL of an empty database; tests that run at once have different ones."""
    server = os.environ.get("RUNNER_TEST_REDIS")
    if server is None:
        pytest.skip(os.environ.get("RUNNER_TEST_REDIS_ABSENT", ABSENT))
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    url = f"{server}/{1 + int(worker)}"
    with connected(url) as database:
        database.flushdb()
    return url


def connected(url: str) -> Any:
    """Connect for looking and for moving time; the caller closes. Typed as loosely as the SDK is."""
    return redis.Redis.from_url(url, protocol=2)


class RedisHarness:
    """One database. Submissions are timed by a clock that stands still, leases and delays by the server's."""

    able = frozenset(
        {
            "priority",
            "withdraw",
            "tell settled from lost",
            "remember settlements",
            "release in place",
            "peek",
            "by user",
        }
    )
    lease_s, lapsed_s, delay_s, tick_s, step_s, clock_s, rounds = 60.0, 61.0, 40.0, 5.0, 10.0, 0.0, 20

    def __init__(self, directory: Path) -> None:
        self.url = redis_url()
        self._at = START_AT

    @asynccontextmanager
    async def broker(self, box: str = BOX) -> AsyncIterator[Broker]:
        credential = Credential("redis", self.url, lease=Duration(self.lease_s))
        broker = RedisBroker(credential, box_id=box, now=self.now)
        try:
            yield broker
        finally:
            await broker.close()

    async def pass_time(self, seconds: float) -> None:
        self._at += seconds
        pass_time(self.url, seconds)

    async def step(self) -> None:
        self._at += self.step_s

    def now(self) -> float:
        return self._at

    def about(self, at: float) -> object:
        return at


def pass_time(url: str, seconds: float) -> None:
    """Move all that lapses or is due in a database so many seconds towards its end."""
    with connected(url) as database:
        for key in database.keys("{*}:later") + database.keys("{*}:claims"):
            for ref in database.zrange(key, 0, -1):
                database.zincrby(key, -1000 * seconds, ref)
        for lane in database.keys("{*}:lane:*"):
            for entry in database.xpending_range(lane, "boxes", "-", "+", 1000):
                idle = entry["time_since_delivered"] + round(1000 * seconds)
                database.xclaim(lane, "boxes", entry["consumer"], 0, [entry["message_id"]], idle=idle, justid=True)
