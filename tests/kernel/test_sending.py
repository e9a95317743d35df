"""Promises 1 to 4, 7, 8 and 10 of the kernel: what becomes of a message. Each test begins with its promise's number."""

from __future__ import annotations

import asyncio

import pytest

from runner.kernel import Counters, MailboxFull, Overflow, Restart
from tests.kernel.player import Player, closed_gate, crash, handled, hang, stage, turns
from tests.virtual_time import run_virtual


def test_01_normal_lane_holds_its_capacity_and_the_urgent_one_never_waits() -> None:
    async def main() -> None:
        async with stage() as on:
            on.supervisor.ref("player", capacity=3)
            player = on.player()
            gate = await closed_gate(player)
            for number in range(3):
                await player.tell(number)
            waiting = asyncio.create_task(player.tell(3))
            for number in range(1000):
                player.urgent(f"urgent {number}")
            await asyncio.sleep(3600)
            assert not waiting.done()
            assert (3, 1000) == (on.counters().depth, on.counters().urgent_depth)
            gate.open()
            await waiting
            await handled(player)
            assert [0, 1, 2, 3] == on.diary[-4:]

    run_virtual(main())


def test_02_an_urgent_message_is_handled_before_the_rest_of_the_batch() -> None:
    async def main() -> None:
        async with stage() as on:
            player = on.player()
            gate = await closed_gate(player)

            async def tell_self(me: Player) -> None:
                me.ref.urgent("urgent from within")

            for message in ("first", tell_self, "second", "third"):
                await player.tell(message)
            player.urgent("urgent from outside")
            gate.open()
            await handled(player)
            expected = ["enter", "urgent from outside", "first", "urgent from within", "second", "third"]
            assert expected == on.diary

    run_virtual(main())


@pytest.mark.parametrize("lane", ["normal", "urgent"])
def test_03_one_senders_messages_keep_their_order_within_a_lane(lane: str) -> None:
    async def main() -> None:
        async with stage() as on:
            on.supervisor.ref("player", capacity=2)
            player = on.player()

            async def send(sender: str) -> None:
                for number in range(50):
                    if lane == "urgent":
                        player.urgent((sender, number))
                        await asyncio.sleep(0)
                    else:
                        await player.tell((sender, number))

            async with asyncio.TaskGroup() as group:
                for sender in "abc":
                    group.create_task(send(sender))
            await handled(player)
            for sender in "abc":
                got = [message for message in on.diary if message[0] == sender]  # type: ignore[index]
                assert [(sender, number) for number in range(50)] == got

    run_virtual(main())


def test_04_a_full_lane_drops_its_oldest_where_declared() -> None:
    async def main() -> None:
        async with stage() as on:
            on.supervisor.ref("player", capacity=2, overflow=Overflow.DROP_OLDEST)
            player = on.player()
            gate = await closed_gate(player)
            for number in range(5):
                await player.tell(number)
            assert 3 == on.counters().dropped
            gate.open()
            await turns()
            assert ["enter", 3, 4] == on.diary

    run_virtual(main())


def test_04_a_full_lane_refuses_where_declared() -> None:
    async def main() -> None:
        async with stage() as on:
            on.supervisor.ref("player", capacity=1, overflow=Overflow.REFUSE)
            player = on.player()
            gate = await closed_gate(player)
            await player.tell("first")
            with pytest.raises(MailboxFull, match="cannot tell str to actor 'player': 1 messages wait already"):
                await player.tell("second")
            assert 1 == on.counters().dropped
            gate.open()
            await turns()
            assert ["enter", "first"] == on.diary

    run_virtual(main())


def test_04_an_offer_never_waits_and_is_counted_when_refused() -> None:
    async def main() -> None:
        async with stage() as on:
            on.supervisor.ref("player", capacity=1)
            player = on.player()
            gate = await closed_gate(player)
            assert [True, False, False] == [player.offer(number) for number in range(3)]
            assert 2 == on.counters().dropped
            gate.open()
            await turns()
            assert ["enter", 0] == on.diary

    run_virtual(main())


def test_04_an_actor_declares_its_own_mailbox_and_a_ref_may_overrule_it() -> None:
    class Small(Player):
        capacity = 7
        overflow = Overflow.REFUSE

    async def main() -> None:
        async with stage() as on:
            on.supervisor.ref("overruled", capacity=9)
            for name in ("own", "overruled"):
                await handled(on.supervisor.add(name, lambda: Small(on.diary)))
            assert (7, 9) == (on.counters("own").capacity, on.counters("overruled").capacity)

    run_virtual(main())


def test_07_what_arrives_just_as_the_actor_falls_asleep_is_handled() -> None:
    """Messages sent at every distance, in turns of the loop, from the last one handled."""

    async def main() -> None:
        async with stage() as on:
            player = on.player()
            for distance in range(12):
                for send in (player.tell, player.offer, player.urgent):
                    await turns(distance)
                    result = send((distance, send.__name__))
                    if result is not None and not isinstance(result, bool):
                        await result
            await asyncio.sleep(1)
            assert 36 + 1 == len(on.diary)

    run_virtual(main())


def test_08_a_ref_is_valid_before_its_actor_starts_and_across_restarts() -> None:
    async def main() -> None:
        async with stage() as on:
            early = on.supervisor.ref("player")
            await early.tell("early")
            player = on.player()
            assert player is early is on.supervisor.ref("player")
            await player.tell(crash)
            await player.tell("after the crash")
            await handled(player)
            assert ["enter", "early", "leave", "enter", "after the crash"] == on.diary

    run_virtual(main())


def test_10_lengths_marks_and_losses_are_counted_exactly() -> None:
    async def main() -> None:
        async with stage() as on:
            on.supervisor.ref("player", capacity=6)
            player = on.player()
            gate = await closed_gate(player)
            for number in range(4):
                await player.tell(number)
            for number in range(3):
                player.urgent(number)
            assert Counters("player", 6, 4, 4, 3, 3, 0) == on.counters()
            gate.open()
            await handled(player)
            await player.tell("one more")
            assert Counters("player", 6, 1, 5, 0, 3, 0) == on.counters()
            gate = await closed_gate(player)
            assert 6 == sum(player.offer(number) for number in range(9))
            assert Counters("player", 6, 6, 6, 0, 3, 3) == on.counters()
            gate.open()

    run_virtual(main())


def test_10_a_status_page_sees_the_children() -> None:
    async def main() -> None:
        async with stage() as on:
            on.player("idle")
            player = on.player("busy", group="edge", restart=Restart(backoff_first_s=60))
            await handled(player)
            player.urgent(crash)
            await turns()
            await player.tell("waits")
            player.urgent("waits too")
            rows = [
                (child.name, child.group, child.state, child.restarts, child.depth)
                for child in on.supervisor.children()
            ]
            assert [("idle", "core", "running", 0, 0), ("busy", "edge", "backing_off", 0, 2)] == rows
            await asyncio.sleep(61)
            assert ("running", 1) == (on.supervisor.children()[1].state, on.supervisor.children()[1].restarts)
            player.urgent(hang)
            await on.supervisor.remove("busy", grace_s=0)
            assert ["idle"] == [child.name for child in on.supervisor.children()]

    run_virtual(main())
