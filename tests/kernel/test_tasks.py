"""Promises 13 to 15 of the kernel: an actor's tasks. Each test begins with its promise's number."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from runner.kernel import Actor, Restart
from tests.kernel.player import EDGE, Broken, Player, closed_gate, fail, forever, handled, hang, now_s, stage, starting
from tests.virtual_time import run_virtual


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
