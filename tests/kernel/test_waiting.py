"""Promises 5 and 6 of the kernel: senders that wait for room. Each test begins with its promise's number."""

from __future__ import annotations

import asyncio

import pytest

from tests.kernel.player import Gate, Player, closed_gate, handled, stage, turns
from tests.virtual_time import run_virtual


def test_05_waiting_senders_are_let_in_first_come_first_served() -> None:
    async def main() -> None:
        async with stage() as on:
            on.supervisor.ref("player", capacity=1)
            player = on.player()
            gate = await closed_gate(player)
            await player.tell(0)
            waiting = [asyncio.create_task(player.tell(number)) for number in range(1, 6)]
            await turns()
            gate.open()
            await asyncio.wait(waiting)
            await handled(player)
            assert ["enter", 0, 1, 2, 3, 4, 5] == on.diary

    run_virtual(main())


def test_05_nobody_overtakes_a_waiting_sender() -> None:
    """A place that became free belongs to who waited, even before he has resumed."""

    async def main() -> None:
        async with stage() as on:
            on.supervisor.ref("player", capacity=1)
            player = on.player()
            gate, inner = await closed_gate(player), Gate()
            await player.tell(inner)
            waiting = asyncio.create_task(player.tell("waited"))
            late: list[asyncio.Task[None]] = []

            async def barge(me: Player) -> None:
                assert not me.ref.offer("offered")
                late.append(asyncio.create_task(me.ref.tell("late")))

            await turns()
            player.urgent(barge)
            gate.open()
            await inner.entered.wait()
            inner.open()
            await waiting
            await asyncio.wait(late)
            await handled(player)
            assert ["enter", "waited", "late"] == on.diary

    run_virtual(main())


def test_05_a_free_place_is_reserved_for_the_sender_that_was_woken() -> None:
    async def main() -> None:
        async with stage() as on:
            on.supervisor.ref("player", capacity=1)
            player = on.player()
            gate = await closed_gate(player)
            offers: list[bool] = []

            async def look(me: Player) -> None:
                offers.append(me.ref.offer("offered"))

            await player.tell(look)
            waiting = asyncio.create_task(player.tell("waited"))
            await turns()
            gate.open()
            await waiting
            await handled(player)
            assert ([False], ["enter", "waited"]) == (offers, on.diary)

    run_virtual(main())


def test_06_a_tell_cancelled_while_it_waits_has_sent_nothing() -> None:
    async def main() -> None:
        async with stage() as on:
            on.supervisor.ref("player", capacity=1)
            player = on.player()
            gate = await closed_gate(player)
            await player.tell("first")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(5):
                    await player.tell("cancelled")
            waiting = asyncio.create_task(player.tell("second"))
            await turns()
            gate.open()
            await waiting
            await handled(player)
            assert ["enter", "first", "second"] == on.diary

    run_virtual(main())


def test_06_a_tell_cancelled_as_it_gets_its_place_passes_the_place_on() -> None:
    """The narrowest instant: room was granted, and the sender is cancelled before it resumes."""

    async def main() -> None:
        async with stage() as on:
            on.supervisor.ref("player", capacity=1)
            player = on.player()
            gate = await closed_gate(player)
            senders: list[asyncio.Task[None]] = []

            async def cancel_first(_: Player) -> None:
                assert senders[0].cancel()

            await player.tell(cancel_first)
            senders += [asyncio.create_task(player.tell(number)) for number in range(3)]
            await turns()
            gate.open()
            await asyncio.wait(senders)
            await handled(player)
            assert (True, ["enter", 1, 2]) == (senders[0].cancelled(), on.diary)
            assert 0 == on.counters().depth

    run_virtual(main())
