"""What the suites for queues and result backends need of each service: a way in, and a clock that can be moved."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

from adapters.queues.folder import FolderBroker
from runner.job import Verdict
from runner.ports import Broker, Delivery, Queue

BOX, OTHER_BOX = "5a0c7f31-7a57-4b0e-9df5-1c3a2d0c7e11", "0b5e9d7c-2c4d-47c1-8a11-f0d3a4e6b922"
LONG_S = 20.0
START_AT = 1_700_000_000.0
QUEUE = "train"


class QueueHarness(Protocol):
    """
    One service under test, without queues at first. What was put through one opening is there for the next.

    ``able`` names what the service can do beyond what all do; tests that need more are marked ``able``.
    """

    able: frozenset[str]
    lease_s: float
    lapsed_s: float
    """Longer than a lease by so much that everybody sees it."""
    delay_s: float
    """A delay that this service keeps exactly."""
    tick_s: float
    """A delay may end so much earlier or later."""
    step_s: float
    """Times that differ by this much are told apart."""
    clock_s: float
    """Times that the service notes may be off by this much."""
    rounds: int
    """How often a race is tried in which a lease has to lapse."""

    def broker(self, box: str = BOX) -> AbstractAsyncContextManager[Broker]:
        """Open the service as the runner of this box."""
        ...

    async def pass_time(self, seconds: float) -> None:
        """Let leases lapse and delays pass, for everybody. Seen by what is opened afterwards, and soon by the rest."""
        ...

    async def step(self) -> None:
        """Let ``step_s`` pass."""
        ...

    def now(self) -> float:
        """Return the epoch second that submissions get."""
        ...

    def about(self, at: float) -> object:
        """Return what equals times that mean this one."""
        ...


class _Clock:
    def __init__(self) -> None:
        self.at = START_AT

    def now(self) -> float:
        return self.at


class FolderHarness:
    """Queues in sub-directories of one directory."""

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
    lease_s, lapsed_s, delay_s, tick_s, step_s, clock_s, rounds = 60.0, 61.0, 40.0, 1.0, 10.0, 0.0, 20

    def __init__(self, directory: Path) -> None:
        self._root = directory / "queues"
        self._root.mkdir()
        self._clock = _Clock()

    @asynccontextmanager
    async def broker(self, box: str = BOX) -> AsyncIterator[Broker]:
        broker = FolderBroker(
            str(self._root), box_id=box, now=self._clock.now, lease_s=self.lease_s, single=False, clock=self._clock
        )
        try:
            yield broker
        finally:
            await broker.close()

    async def pass_time(self, seconds: float) -> None:
        self._clock.at += seconds

    async def step(self) -> None:
        await self.pass_time(self.step_s)

    def now(self) -> float:
        return self._clock.at

    def about(self, at: float) -> object:
        return at


@asynccontextmanager
async def opened(harness: QueueHarness, box: str = BOX, name: str = QUEUE) -> AsyncIterator[Queue]:
    """Open one queue as the runner of a box."""
    async with harness.broker(box) as broker:
        queue = await broker.open(name)
        try:
            yield queue
        finally:
            await queue.close()


async def fetched(queue: Queue, wait_s: float = 0.0) -> Delivery:
    delivery = await queue.fetch(wait_s)
    assert delivery is not None
    return delivery


async def acknowledge(queue: Queue, delivery: Delivery) -> None:
    await queue.settle(delivery.token, Verdict.ACK, after_s=0, note=delivery.note, reason="")


async def drained(queue: Queue) -> list[Delivery]:
    """Fetch and acknowledge all that waits."""
    taken = []
    while (delivery := await queue.fetch(0)) is not None:
        await acknowledge(queue, delivery)
        taken.append(delivery)
    return taken
