"""Promises 11 and 12 of the kernel: one actor, begun and ended. Each test begins with its promise's number."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from runner.kernel import Restart
from tests.kernel.player import EDGE, Broken, Player, Stage, crash, fail, forever, handled, hang, now_s, stage, starting
from tests.virtual_time import run_virtual


def test_11_an_actor_handles_one_message_at_a_time() -> None:
    async def main() -> None:
        busy: list[int] = []

        async def act(_: Player) -> None:
            busy.append(1)
            assert 1 == len(busy)
            await asyncio.sleep(1)
            busy.clear()

        async with stage() as on:
            player = on.player()
            for _ in range(10):
                await player.tell(act)
                player.urgent(act)
            await handled(player)
            assert 20 == now_s()

    run_virtual(main())


@pytest.mark.parametrize("lane", ["normal", "urgent"])
def test_11_an_actor_that_keeps_itself_busy_leaves_others_their_turn(lane: str) -> None:
    async def main() -> None:
        rounds: list[int] = []

        async def again(me: Player) -> None:
            rounds.append(1)
            assert len(rounds) < 100_000
            if lane == "urgent":
                me.ref.urgent(again)
            else:
                await me.ref.tell(again)

        async with stage(grace_s=0) as on:
            player, other = on.player(restart=Restart.NEVER), on.player("other")
            await player.tell(again)
            for number in range(100):
                await other.tell(number)
                await asyncio.sleep(0)
            assert "running" == on.supervisor.children()[0].state

    run_virtual(main())


async def _stop(on: Stage) -> None:
    await on.supervisor.remove("player", grace_s=60)


async def _crash(on: Stage) -> None:
    on.supervisor.ref("player").urgent(crash)
    await asyncio.sleep(0.5)


async def _cancel(on: Stage) -> None:
    on.supervisor.ref("player").urgent(hang)
    await on.supervisor.remove("player", grace_s=0)


@pytest.mark.parametrize("end", [_stop, _crash, _cancel])
def test_12_lifespan_surrounds_all_messages_however_the_actor_ends(end: Callable[[Stage], Awaitable[None]]) -> None:
    """What follows the `yield` needs no `finally`, and finds the tasks already ended."""

    async def main() -> None:
        async def task() -> None:
            try:
                await forever()
            finally:
                on.diary.append("task ended")

        async with stage() as on:
            player = on.player(**EDGE)
            await player.tell(starting(task))
            await player.tell("message")
            await handled(player)
            await end(on)
            assert ["enter", "message", "task ended", "leave"] == on.diary

    run_virtual(main())


def test_12_a_lifespan_that_cannot_be_entered_is_a_crash_and_its_tasks_end() -> None:
    class Unborn(Player):
        @asynccontextmanager
        async def lifespan(self) -> AsyncIterator[None]:
            self.start_soon(self.task, name="task")
            await asyncio.sleep(1)
            if self.diary.count("task ended") < 2:
                raise Broken
            yield

        async def task(self) -> None:
            try:
                await forever()
            finally:
                self.diary.append("task ended")

    async def main() -> None:
        async with stage() as on:
            unborn = on.supervisor.add("player", lambda: Unborn(on.diary))
            await unborn.tell("waits for the third")
            await handled(unborn)
            assert ["task ended", "task ended", "waits for the third"] == on.diary

    run_virtual(main())


def test_12_a_lifespan_that_does_not_end_is_cut_off() -> None:
    class Endless(Player):
        cleanup_s = 7.0

        @asynccontextmanager
        async def lifespan(self) -> AsyncIterator[None]:
            yield
            await forever()

    async def main() -> None:
        downs: list[object] = []
        async with stage() as on:
            on.supervisor.add("player", lambda: Endless(on.diary), group="edge")
            on.supervisor.watch("player", lambda down: downs.append((down.reason, type(down.error), now_s())))
            await handled(on.supervisor.ref("player"))
            await on.supervisor.remove("player", grace_s=60)
            assert [("crashed", TimeoutError, 7)] == downs

    run_virtual(main())


def test_12_a_task_that_ignores_its_cancellation_is_left_behind_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async def stubborn() -> None:
            for _ in range(3):
                try:
                    await forever()
                except asyncio.CancelledError:
                    await asyncio.sleep(60)

        async with stage() as on:
            player = on.player()
            await player.tell(starting(stubborn, "stubborn"))
            await handled(player)
            await on.supervisor.remove("player", grace_s=60)
            assert (10, ["enter", "leave"]) == (now_s(), on.diary)

    run_virtual(main())
    assert ["task ignores its cancellation"] == [record.message for record in caplog.records]


def test_12_an_instance_that_ignores_its_cancellation_takes_no_more_messages() -> None:
    """It is left behind, and the new instance must stay the only one that handles messages."""

    async def main() -> None:
        handlers: list[Player] = []

        async def stubborn(_: Player) -> None:
            for _minute in range(5):
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(60)

        async def note(me: Player) -> None:
            handlers.append(me)
            await asyncio.sleep(10)

        async with stage() as on:
            player = on.player(restart=Restart(backoff_first_s=1))
            for message in (starting(fail), stubborn, *[note] * 20):
                await player.tell(message)
            await asyncio.sleep(300)
            assert (20, 1) == (len(handlers), len(set(map(id, handlers))))

    run_virtual(main())
