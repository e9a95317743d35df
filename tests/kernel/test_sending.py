"""Promises 1 to 10 of the kernel: what becomes of a message on its way. Each test begins with its promise's number."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runner.kernel import ActorStopped, Counters, MailboxFull, Overflow, Ref, Reply, Restart
from tests.kernel.player import Act, Broken, Gate, Player, answering, closed_gate, crash, handled, hang, now_s, stage
from tests.virtual_time import run_virtual


async def turns(count: int = 5) -> None:
    """Let everything that is ready run."""
    for _ in range(count):
        await asyncio.sleep(0)


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


def test_09_ask_returns_the_first_answer() -> None:
    async def main() -> None:
        def make(reply: Reply[int]) -> Act:
            async def act(_: Player) -> None:
                reply.answer(1)
                reply.answer(2)
                reply.fail(Broken())

            return act

        async with stage() as on:
            assert 1 == await on.player().ask(make, 5)

    run_virtual(main())


def test_09_ask_raises_the_failure() -> None:
    async def main() -> None:
        def make(reply: Reply[int]) -> Act:
            async def act(_: Player) -> None:
                reply.fail(Broken("no"))
                reply.answer(2)

            return act

        async with stage() as on:
            with pytest.raises(Broken, match="no"):
                await on.player().ask(make, 5)

    run_virtual(main())


def test_09_ask_goes_ahead_of_the_normal_lane() -> None:
    async def main() -> None:
        async with stage() as on:
            player = on.player()
            gate = await closed_gate(player)
            await player.tell("normal")
            asking = asyncio.create_task(player.ask(answering("answer"), 5))
            asking.add_done_callback(lambda _: on.diary.append("answered"))
            await turns()
            player.urgent(hang)
            gate.open()
            assert "answer" == await asking
            assert ["enter", "answered"] == on.diary
            await on.supervisor.stop(grace_s=0)

    run_virtual(main())


def test_09_each_ask_ends_after_its_own_time() -> None:
    """Asks share one timer; a shorter, a longer and an answered one must not disturb each other."""

    async def main() -> None:
        ended: dict[float, float] = {}

        async def ask(ref: Ref[Any], timeout_s: float) -> None:
            with pytest.raises(TimeoutError, match="actor 'player' did not answer function in time"):
                await ref.ask(lambda _: ignore, timeout_s)
            ended[timeout_s] = now_s()

        async def ignore(_: Player) -> None:
            pass

        async with stage() as on:
            player = on.player()
            async with asyncio.TaskGroup() as group:
                for timeout_s in (30, 10, 20, 10.5):
                    group.create_task(ask(player, timeout_s))
                await asyncio.sleep(5)
                assert 1 == await player.ask(answering(1), 1)
        assert {10: 10, 10.5: 10.5, 20: 20, 30: 30} == pytest.approx(ended)

    run_virtual(main())


def test_09_a_late_answer_is_ignored() -> None:
    async def main() -> None:
        kept: list[Reply[int]] = []

        def make(reply: Reply[int]) -> str:
            kept.append(reply)
            return "question"

        async with stage() as on:
            player = on.player()
            with pytest.raises(TimeoutError):
                await player.ask(make, 5)
            kept[0].answer(1)
            kept[0].fail(Broken())
            assert 2 == await player.ask(answering(2), 5)

    run_virtual(main())


def test_09_ask_raises_when_the_actor_has_stopped_or_stops() -> None:
    async def main() -> None:
        async with stage() as on:
            player = on.player()
            asking: asyncio.Task[int] = asyncio.create_task(player.ask(lambda _: "never answered", 3600))
            await turns()
            await on.supervisor.stop(grace_s=5)
            with pytest.raises(ActorStopped, match="actor 'player' stopped before it answered"):
                await asking
            with pytest.raises(ActorStopped, match="stopped before it answered function"):
                await player.ask(answering(1), 3600)
            assert 0 == now_s()

    run_virtual(main())


def test_09_ask_raises_when_the_actor_crashes_over_the_question() -> None:
    async def main() -> None:
        async with stage() as on:
            player = on.player()
            with pytest.raises(ActorStopped, match="actor 'player' crashed before it answered function"):
                await player.ask(lambda _: crash, 3600)
            assert 1 == await player.ask(answering(1), 3600)

    run_virtual(main())


def test_09_a_failure_for_an_asker_that_was_cancelled_leaves_no_complaint() -> None:
    async def main() -> None:
        def make(reply: Reply[int]) -> Act:
            async def act(_: Player) -> None:
                reply.fail(Broken())
                asking.cancel()

            return act

        async with stage() as on:
            asking: asyncio.Task[int] = asyncio.create_task(on.player().ask(make, 5))
            await asyncio.wait({asking})
            assert asking.cancelled()

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
