"""
Many seeded interleavings of everything that may happen to a mailbox, checked against a ledger.

Covers promises 1, 3, 4, 6, 7, 16 and 20 together: whatever the order, every accepted message is accounted for once.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.kernel import Actor, DeadLetter, MailboxFull, Overflow, Restart, Supervisor
from tests.virtual_time import run_virtual

Message = tuple[str, int]


class Chaos:
    """Senders, cancellations, crashes and restarts at random; a ledger of what was sent and what became of it."""

    def __init__(self, seed: int, capacity: int, overflow: Overflow) -> None:
        self.dice = random.Random(seed)
        self.sent: list[Message] = []
        self.unsent: list[Message] = []
        self.handled: list[Message] = []
        self.letters: list[DeadLetter] = []
        self.supervisor = Supervisor(on_dead_letter=self.letters.append, random=self.dice.random)
        self.ref = self.supervisor.ref("target", capacity=capacity, overflow=overflow)

    async def pause(self) -> None:
        """Pass a few turns of the loop, or some time."""
        if self.dice.random() < 0.1:
            await asyncio.sleep(self.dice.random())
        for _ in range(self.dice.randrange(4)):
            await asyncio.sleep(0)

    async def send(self, sender: str, count: int) -> None:
        """Send numbered messages, each in a way that the dice choose; a sender stays on one lane."""
        for number in range(count):
            message = (sender, number)
            try:
                went = await self._send_one(message)
            except (TimeoutError, MailboxFull):
                went = False
            (self.sent if went else self.unsent).append(message)
            await self.pause()

    async def _send_one(self, message: Message) -> bool:
        if message[0].startswith("urgent"):
            self.ref.urgent(message)
        elif self.dice.random() < 0.3:
            return self.ref.offer(message)
        elif self.dice.random() < 0.3:
            async with asyncio.timeout(self.dice.random() * 0.2):
                await self.ref.tell(message)
        else:
            await self.ref.tell(message)
        return True

    async def run(self, *, crashes: float) -> None:
        """Play it all and stop gracefully."""
        chaos = self

        class Target(Actor[Message]):
            async def receive(self, message: Message) -> None:
                if chaos.dice.random() < crashes:
                    raise LookupError
                await chaos.pause()
                chaos.handled.append(message)

        self.supervisor.add("target", Target, group="edge", restart=Restart(attempts=10_000, backoff_max_s=0.5))
        running = asyncio.create_task(self.supervisor.run())
        async with asyncio.TaskGroup() as group:
            for sender in ("normal a", "normal b", "normal c", "urgent a", "urgent b"):
                group.create_task(self.send(sender, 12))
        await self.supervisor.stop(grace_s=3600)
        await running


def check(chaos: Chaos, overflow: Overflow) -> None:
    """Hold the ledger against the promises."""
    counters = chaos.supervisor.counters()[0]
    accounted: Counter[object] = Counter(chaos.handled) + Counter(letter.message for letter in chaos.letters)
    sent: Counter[object] = Counter(chaos.sent)
    lost = sent - accounted
    assert accounted <= sent, "handled twice, or what was not sent"
    assert (0 if overflow is not Overflow.DROP_OLDEST else counters.dropped) >= lost.total()
    assert counters.high <= counters.capacity
    for sender in {sender for sender, _ in chaos.sent}:
        numbers = [number for name, number in chaos.handled if name == sender]
        assert sorted(numbers) == numbers


@given(
    seed=st.integers(0, 2**32),
    capacity=st.integers(1, 5),
    overflow=st.sampled_from(Overflow),
    crashes=st.sampled_from([0.0, 0.1]),
)
def test_every_message_is_handled_once_or_accounted_for(
    seed: int, capacity: int, overflow: Overflow, crashes: float
) -> None:
    chaos = Chaos(seed, capacity, overflow)
    run_virtual(chaos.run(crashes=crashes))
    check(chaos, overflow)


@pytest.mark.parametrize("seed", range(20))
def test_senders_that_come_and_go_at_a_full_mailbox_leave_it_working(seed: int) -> None:
    """Only tells with a time limit, at a slow actor: the path on which a place is granted and given up."""

    async def main() -> None:
        chaos = Chaos(seed, 1, Overflow.WAIT)
        handled: list[int] = []

        class Slow(Actor[int]):
            async def receive(self, message: int) -> None:
                await asyncio.sleep(0.1 if message % 3 else 0)
                handled.append(message)

        async def tell(number: int) -> bool:
            try:
                async with asyncio.timeout(chaos.dice.choice([0.1, 0.2, 0.3, chaos.dice.random()])):
                    await chaos.ref.tell(number)
            except TimeoutError:
                return False
            return True

        chaos.supervisor.add("target", Slow)
        running = asyncio.create_task(chaos.supervisor.run())
        sent = await asyncio.gather(*[tell(number) for number in range(60)])
        await chaos.ref.tell(-1)
        await chaos.supervisor.stop(grace_s=60)
        await running
        assert [number for number, went in enumerate(sent) if went] == handled[:-1]

    run_virtual(main())
