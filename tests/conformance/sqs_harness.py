"""SQS as the conformance suite sees it: two servers that speak it, a world of its own for each test."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adapters.queues.sqs import SqsBroker
from runner.credential import Credential
from runner.secret import Secret
from runner.units import Duration
from tests.conformance.queue_harness import BOX

NO_SERVICE = "no SQS server: run `make test`, or `python -m tests.services {} -- pytest …`"


def sqs_credential(endpoint: str, *, account: str, region: str, queue: str = "", lease_s: float = 2.0) -> Credential:
    """Return the credential of one account and region at an endpoint."""
    return Credential(
        kind="sqs",
        url=f"sqs://{region}/{queue}",
        secrets={"access_key": Secret(account), "secret_key": Secret("made up")},
        lease=Duration(lease_s),
        options={"endpoint": endpoint},
    )


class _SqsHarness:
    """Real time passes. A lease is as short as whole seconds allow; the servers look at their clocks once a second."""

    able = frozenset({"tell settled from lost"})
    lease_s, lapsed_s, delay_s, tick_s, step_s, clock_s, rounds = 6.0, 8.0, 6.0, 2.5, 3.0, 3.0, 1
    variable, service = "", ""

    def __init__(self, directory: Path) -> None:
        if self.variable not in os.environ:
            pytest.skip(os.environ.get(f"{self.variable}_ABSENT", NO_SERVICE.format(self.service)))
        self.endpoint = os.environ[self.variable]

    def credential(self) -> Credential:
        raise NotImplementedError

    @asynccontextmanager
    async def broker(self, box: str = BOX) -> AsyncIterator[SqsBroker]:
        broker = SqsBroker(self.credential(), box_id=box, now=time.time)
        try:
            yield broker
        finally:
            await broker.close()

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def step(self) -> None:
        await self.pass_time(self.step_s)

    def now(self) -> float:
        return time.time()

    def about(self, at: float) -> object:
        return pytest.approx(at, abs=self.clock_s)


class LocalStackHarness(_SqsHarness):
    """LocalStack: an access key of twelve digits is an account of its own."""

    variable, service = "RUNNER_TEST_SQS", "localstack"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._account = f"{secrets.randbelow(10**12):012d}"

    def credential(self) -> Credential:
        return sqs_credential(self.endpoint, account=self._account, region="us-east-1", lease_s=self.lease_s)


class MotoHarness(_SqsHarness):
    """moto: every region is a world of its own."""

    variable, service = "RUNNER_TEST_MOTO", "moto"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._region = f"test-{secrets.token_hex(6)}"

    def credential(self) -> Credential:
        return sqs_credential(self.endpoint, account="AKIAMADEUP", region=self._region, lease_s=self.lease_s)
