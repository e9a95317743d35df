"""Promise 9 of the kernel: a question and its answer. Each test begins with its promise's number."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runner.kernel import ActorStopped, Ref, Reply
from tests.kernel.player import Act, Broken, Player, answering, closed_gate, crash, hang, now_s, stage, turns
from tests.virtual_time import run_virtual


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
