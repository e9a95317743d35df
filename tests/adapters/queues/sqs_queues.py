"""What the tests of SQS have in common: a queue of a fresh account with limits of their own, and a bare client."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from adapters.queues.sqs import SqsBroker
from adapters.queues.sqs_access import Limits
from adapters.queues.sqs_queue import SqsQueue
from adapters.queues.sqs_service import SqsService
from adapters.queues.sqs_token import awake_clock
from runner.credential import Credential
from runner.ports import Delivery
from tests.conformance.queue_harness import BOX, OTHER_BOX
from tests.conformance.sqs_harness import LocalStackHarness, sqs_credential

__all__ = ["BOX", "OTHER_BOX", "Account", "fetched"]

REGION = "us-east-1"


class Account:
    """One account of a LocalStack that runs, with nothing in it at first."""

    def __init__(self) -> None:
        self.endpoint = LocalStackHarness(Path()).endpoint
        self.id = f"{secrets.randbelow(10**12):012d}"

    def credential(self, queue: str = "", lease_s: float = 2.0, **options: str) -> Credential:
        endpoint = options.pop("endpoint", self.endpoint)
        return sqs_credential(endpoint, account=self.id, region=REGION, queue=queue, lease_s=lease_s)

    @asynccontextmanager
    async def broker(
        self,
        credential: Credential | None = None,
        *,
        box: str = BOX,
        limits: Limits | None = None,
        clock: Callable[[], float] = awake_clock,
    ) -> AsyncIterator[SqsBroker]:
        broker = SqsBroker(
            credential or self.credential(), box_id=box, now=time.time, clock=clock, limits=limits or Limits()
        )
        try:
            yield broker
        finally:
            await broker.close()

    @asynccontextmanager
    async def queue(
        self,
        name: str = "train",
        *,
        box: str = BOX,
        lease_s: float = 2.0,
        limits: Limits | None = None,
        endpoint: str = "",
        clock: Callable[[], float] = awake_clock,
    ) -> AsyncIterator[SqsQueue]:
        credential = self.credential(lease_s=lease_s, endpoint=endpoint or self.endpoint)
        async with self.broker(credential, box=box, limits=limits, clock=clock) as broker:
            queue = await broker.open(name)
            try:
                yield queue
            finally:
                await queue.close()

    async def call(self, action: str, **parameters: Any) -> dict[str, Any]:
        """Ask the service as anybody with a client can."""
        service = SqsService(self.credential(), REGION)
        try:
            return await service.call(action, "test", **parameters)
        finally:
            await service.close()

    async def made(self, name: str, **attributes: str) -> str:
        """Make a queue and return its URL."""
        return str((await self.call("create_queue", QueueName=name, Attributes=attributes))["QueueUrl"])

    async def bodies(self, name: str) -> list[dict[str, Any]]:
        """Receive what is visible in a queue, at most ten."""
        url = (await self.call("get_queue_url", QueueName=name))["QueueUrl"]
        answer = await self.call(
            "receive_message",
            QueueUrl=url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=1,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["All"],
        )
        return list(answer.get("Messages") or ())


async def fetched(queue: SqsQueue, wait_s: float = 10.0) -> Delivery:
    delivery = await queue.fetch(wait_s)
    assert delivery is not None
    return delivery
