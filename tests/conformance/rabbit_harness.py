"""Queues in a real RabbitMQ, in a virtual host of this process's own; leases and delays take the time they take."""

from __future__ import annotations

import asyncio
import base64
import os
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar, Literal
from urllib.parse import quote, urlsplit

import msgspec
import pytest

from adapters.queues.rabbitmq import RabbitBroker
from runner.credential import Credential
from runner.ports import Broker
from runner.secret import Secret
from runner.units import Duration
from tests.conformance.queue_harness import BOX, START_AT

ABSENT = "no RabbitMQ: run `make test`, or `python -m tests.services rabbitmq -- pytest …`"
CALL_S = 30.0


class RabbitHost(msgspec.Struct, frozen=True):
    """A virtual host of the node under test, and who may do all in it."""

    vhost: str
    server: str
    management: str
    username: str
    password: str

    @property
    def port(self) -> int:
        return urlsplit(self.server).port or 0

    @property
    def path(self) -> str:
        """The virtual host as it stands in paths of the management API."""
        return quote(self.vhost, safe="")

    def url(self, port: int | None = None, query: str = "") -> str:
        """Return its URL without a secret."""
        parts = urlsplit(self.server)
        return f"amqp://{parts.hostname}:{port or self.port}/{self.path}{query}"

    def url_with_secret(self) -> str:
        """Return what client libraries connect by."""
        return self.url().replace("amqp://", f"amqp://{self.username}:{self.password}@")

    def credential(
        self, lease_s: float = 60.0, *, port: int | None = None, query: str = "", **options: str
    ) -> Credential:
        """Return what its credential file would say."""
        secrets = {"username": Secret(self.username), "password": Secret(self.password)}
        told = {"management": self.management, **options}
        url = self.url(port, query)
        return Credential("rabbitmq", url, secrets=secrets, lease=Duration(lease_s), options=told)

    def ask(self, method: Literal["GET", "PUT", "DELETE"], path: str, **body: object) -> bytes:
        """Call the management API as its administrator."""
        parts = urlsplit(self.server)
        token = base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode()
        headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        data = msgspec.json.encode(body) if method == "PUT" else None
        url = f"{self.management}/api/{path}"
        request = urllib.request.Request(url, data=data, headers=headers, method=method)  # noqa: S310 - our own server
        with urllib.request.urlopen(request, timeout=CALL_S) as response:  # noqa: S310 - the same
            content: bytes = response.read()
        return content

    def as_user(
        self, username: str, *, configure: str, write: str = ".*", read: str = ".*", tags: str = ""
    ) -> RabbitHost:
        """
        Make a user with these rights here; return the same host for them.

        Users are the whole server's: those of tests that run at once have different names.
        """
        username = f"{username}-{self.vhost.removeprefix('test ')}"
        self.ask("PUT", f"users/{username}", password=f"{username}-word", tags=tags)
        path = f"permissions/{self.path}/{username}"
        self.ask("PUT", path, configure=configure, write=write, read=read)
        return msgspec.structs.replace(self, username=username, password=f"{username}-word")


def rabbit_host() -> RabbitHost:
    """Return an empty virtual host; tests that run at once have different ones."""
    server = os.environ.get("RUNNER_TEST_RABBITMQ")
    if server is None:
        pytest.skip(os.environ.get("RUNNER_TEST_RABBITMQ_ABSENT", ABSENT))
    parts = urlsplit(server)
    vhost = f"test {os.environ.get('PYTEST_XDIST_WORKER', 'gw0')}"
    management = os.environ["RUNNER_TEST_RABBITMQ_MANAGEMENT"]
    host = RabbitHost(vhost, server, management, parts.username or "", parts.password or "")
    path = f"vhosts/{host.path}"
    host.ask("PUT", path)
    host.ask("DELETE", path)
    host.ask("PUT", path)
    return host


class RabbitHarness:
    """Quorum queues, which is what the runner makes unless it is told otherwise."""

    able = frozenset({"tell settled from lost"})
    lease_s, lapsed_s, delay_s, tick_s, step_s, clock_s, rounds = 2.0, 2.6, 1.0, 0.4, 10.0, 0.0, 2
    queue_type: ClassVar[str] = "quorum"

    def __init__(self, directory: Path) -> None:
        self.host = rabbit_host()
        self._at = START_AT

    @asynccontextmanager
    async def broker(self, box: str = BOX) -> AsyncIterator[Broker]:
        credential = self.host.credential(self.lease_s, queue_type=self.queue_type)
        broker = RabbitBroker(credential, box_id=box, now=self.now)
        try:
            yield broker
        finally:
            await broker.close()

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def step(self) -> None:
        self._at += self.step_s

    def now(self) -> float:
        return self._at

    def about(self, at: float) -> object:
        return at


class ClassicRabbitHarness(RabbitHarness):
    """Classic queues, which have priorities."""

    able = RabbitHarness.able | {"a few priorities"}
    queue_type = "classic"
