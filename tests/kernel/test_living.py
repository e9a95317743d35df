"""Promises 11 to 15 of the kernel: one actor and its tasks. Each test begins with its promise's number."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from runner.kernel import Actor, Restart
from tests.kernel.player import Broken, Player, Stage, closed_gate, crash, handled, hang, now_s, stage
from tests.virtual_time import run_virtual

EDGE: dict[str, Any] = {"group": "edge", "restart": Restart.NEVER}


async def forever() -> None:
    """Run until cancelled."""
    await asyncio.Event().wait()


async def fail() -> None:
    """Fail a little later."""
    await asyncio.sleep(1)
    raise Broken


def starting(func: Callable[[], Awaitable[None]], name: str = "task", *, told: bool = False) -> object:
    """Make a message upon which a player starts that task, and is told of its error or not."""

    async def act(me: Player) -> None:
        me.start_soon(func, name=name, on_error=(lambda error: ("told", type(error))) if told else None)

    return act


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


def test_13_a_tasks_error_is_told_to_its_actor_ahead_of_other_messages() -> None:
    async def main() -> None:
        async with stage() as on:
            player = on.player()
            await player.tell(starting(fail, told=True))
            gate = await closed_gate(player)
            await player.tell("waits")
            await asyncio.sleep(2)
            gate.open()
            await handled(player)
            assert ["enter", ("told", Broken), "waits"] == on.diary

    run_virtual(main())


def test_13_a_tasks_error_that_is_not_told_crashes_the_actor_at_once() -> None:
    async def main() -> None:
        async with stage() as on:
            player = on.player(group="edge", restart=Restart(backoff_first_s=10))
            await player.tell(starting(fail))
            await player.tell(hang)
            await player.tell("waits")
            await asyncio.sleep(1.5)
            assert (["enter", "leave"], [("player", hang, "crashed")]) == (on.diary, on.undelivered())
            await handled(player)
            assert (["enter", "leave", "enter", "waits"], 11) == (on.diary, now_s())

    run_virtual(main())


def test_13_an_error_that_cannot_be_told_crashes_the_actor() -> None:
    async def main() -> None:
        def cannot(_: Exception) -> object:
            raise ValueError

        async def act(me: Player) -> None:
            me.start_soon(fail, name="task", on_error=cannot)

        downs: list[object] = []
        async with stage() as on:
            player = on.player(**EDGE)
            on.supervisor.watch("player", lambda down: downs.append((down.reason, type(down.error))))
            await player.tell(act)
            await asyncio.sleep(2)
            assert [("crashed", ValueError)] == downs

    run_virtual(main())


def test_13_a_task_that_fails_while_its_actor_still_begins_crashes_it() -> None:
    """An actor may wait in its lifespan for what its own task brings."""

    class Waiting(Actor[object]):
        @asynccontextmanager
        async def lifespan(self) -> AsyncIterator[None]:
            self.start_soon(fail, name="task")
            await forever()
            yield

    async def main() -> None:
        downs: list[object] = []
        async with stage() as on:
            on.supervisor.add("player", Waiting, group="edge", restart=Restart.NEVER)
            on.supervisor.watch("player", lambda down: downs.append((type(down.error), now_s())))
            await asyncio.sleep(5)
            assert [(Broken, 1)] == downs

    run_virtual(main())


def test_13_an_error_told_while_the_actor_ends_is_a_dead_letter() -> None:
    async def main() -> None:
        async def fail_late() -> None:
            try:
                await forever()
            finally:
                raise Broken

        async with stage() as on:
            player = on.player()
            await player.tell(starting(fail_late, told=True))
            await handled(player)
            await on.supervisor.remove("player", grace_s=5)
            assert [("player", ("told", Broken), "stopped")] == on.undelivered()

    run_virtual(main())


def test_13_an_exception_outside_the_usual_tree_is_a_crash_too() -> None:
    class Odd(BaseException):
        """Neither an `Exception` nor one that ends the process."""

    async def main() -> None:
        async def act(_: Player) -> None:
            raise Odd

        downs: list[object] = []
        async with stage() as on:
            on.supervisor.watch("player", lambda down: downs.append((down.reason, str(down.error))))
            await on.player(**EDGE).tell(act)
            await asyncio.sleep(1)
            assert [("crashed", "task 'player/receive' raised Odd()")] == downs

    run_virtual(main())


def test_13_two_tasks_that_fail_together_are_one_crash() -> None:
    async def main() -> None:
        async def fail_too() -> None:
            await asyncio.sleep(1)
            raise LookupError

        downs: list[object] = []
        async with stage() as on:
            on.supervisor.watch("player", lambda down: downs.append(type(down.error)))
            player = on.player(**EDGE)
            await player.tell(starting(fail, "one"))
            await player.tell(starting(fail_too, "two"))
            await asyncio.sleep(2)
            assert (["enter", "leave"], [Broken]) == (on.diary, downs)

    run_virtual(main())


def test_14_cancelling_a_task_frees_its_name_at_once() -> None:
    async def main() -> None:
        async def act(me: Player) -> None:
            me.start_soon(forever, name="one")
            me.start_soon(forever, name="two")
            with pytest.raises(
                ValueError, match="cannot start task 'one' of actor 'player': one runs; cancel it first"
            ):
                me.start_soon(forever, name="one")
            assert ("one", "two") == me.tasks()
            assert [True, False] == [me.cancel_task("one"), me.cancel_task("one")]
            assert ("two",) == me.tasks()
            me.start_soon(forever, name="one")
            await asyncio.sleep(1)
            assert ("two", "one") == me.tasks()

        async with stage() as on:
            player = on.player()
            await player.tell(act)
            await handled(player)
            await on.supervisor.remove("player", grace_s=5)
            assert [] == on.letters

    run_virtual(main())


def test_14_a_name_is_free_when_the_last_message_of_its_task_is_handled() -> None:
    """A task says that it is done with its last step, and its actor starts the next under the same name."""

    async def main() -> None:
        ended: list[int] = []

        async def act(me: Player) -> None:
            async def task() -> None:
                await asyncio.sleep(1)
                ended.append(1)
                if len(ended) < 5:
                    me.ref.urgent(act)

            me.start_soon(task, name="task")

        async with stage() as on:
            await on.player().tell(act)
            await asyncio.sleep(10)
            assert 5 == len(ended)

    run_virtual(main())


def test_14_a_task_gets_its_arguments_and_may_end_without_a_word() -> None:
    async def main() -> None:
        async with stage() as on:
            player = on.player()

            async def task(first: int, second: str) -> None:
                on.diary.append((first, second))

            async def act(me: Player) -> None:
                me.start_soon(task, 1, "two", name="task")

            await player.tell(act)
            await asyncio.sleep(1)
            await handled(player)
            assert ["enter", (1, "two")] == on.diary

    run_virtual(main())


def test_14_tasks_started_while_the_actor_ends_are_cancelled_too() -> None:
    class Late(Player):
        @asynccontextmanager
        async def lifespan(self) -> AsyncIterator[None]:
            yield
            self.start_soon(forever, name="late")

    async def main() -> None:
        async with stage() as on:
            await handled(on.supervisor.add("player", lambda: Late(on.diary)))
            await on.supervisor.remove("player", grace_s=5)
            assert 0 == now_s()

    run_virtual(main())


def test_15_a_cancellation_from_elsewhere_crashes_the_actor() -> None:
    async def main() -> None:
        async def act(_: Player) -> None:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

        async with stage() as on:
            player = on.player(group="edge")
            await player.tell(act)
            await player.tell("waits")
            await handled(player)
            assert (["enter", "leave", "enter", "waits"], [("player", act, "crashed")]) == (on.diary, on.undelivered())

    run_virtual(main())


def test_15_a_cancellation_from_elsewhere_is_a_tasks_error() -> None:
    """Otherwise a job's task could vanish without a word when a library cancels what it awaits."""

    async def main() -> None:
        async def cancelled() -> None:
            future = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(1, future.cancel)
            await future

        async with stage() as on:
            await on.player().tell(starting(cancelled, told=True))
            await asyncio.sleep(2)
            assert ["enter", ("told", RuntimeError)] == on.diary

    run_virtual(main())
