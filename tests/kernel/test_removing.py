"""Promises 23 to 25 of the kernel: cancelling, removing, borrowing. Each test begins with its promise's number."""

from __future__ import annotations

import ast
import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import runner.kernel
from runner.kernel import DeadLetter, Supervisor
from tests.kernel.player import Player, handled, hang, now_s, stage, troupe
from tests.virtual_time import run_virtual


def test_23_cancelling_run_leaves_every_lifespan_and_raises() -> None:
    async def main() -> None:
        diary: list[object] = []
        supervisor = troupe(diary, "busy", "idle")
        running = asyncio.create_task(supervisor.run())
        await supervisor.ref("busy").tell(hang)
        await asyncio.sleep(1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert {"busy left", "idle left"} == set(diary)
        assert {"stopped"} == {child.state for child in supervisor.children()}

    run_virtual(main())


def test_23_a_crash_that_meets_a_cancellation_does_not_swallow_it() -> None:
    async def main() -> None:
        async def fail() -> None:
            raise ValueError

        async def act(me: Player) -> None:
            me.start_soon(fail, name="task")
            asyncio.get_running_loop().call_soon(running.cancel)
            await hang(me)

        supervisor = Supervisor()
        await supervisor.add("player", lambda: Player([]), group="edge").tell(act)
        running = asyncio.create_task(supervisor.run())
        with pytest.raises(asyncio.CancelledError):
            await running

    run_virtual(main())


def test_23_a_cleanup_that_fails_after_a_cancellation_starts_nothing_again() -> None:
    class Untidy(Player):
        @asynccontextmanager
        async def lifespan(self) -> AsyncIterator[None]:
            self.diary.append("enter")
            yield
            raise ValueError

    async def main() -> None:
        diary: list[object] = []
        supervisor = Supervisor()
        untidy = supervisor.add("untidy", lambda: Untidy(diary), group="edge")
        running = asyncio.create_task(supervisor.run())
        await untidy.tell(hang)
        await untidy.tell("waits")
        await asyncio.sleep(1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (["enter"], 1) == (diary, now_s())

    run_virtual(main())


def test_24_a_name_added_again_at_once_is_not_removed_by_a_second_remover() -> None:
    async def main() -> None:
        async with stage() as on:

            async def replace() -> None:
                await on.supervisor.remove("player", grace_s=5)
                on.player()

            await handled(on.player())
            await asyncio.gather(replace(), on.supervisor.remove("player", grace_s=5))
            assert ["player"] == [child.name for child in on.supervisor.children()]

    run_virtual(main())


def test_24_remove_forgets_the_actor_and_its_name_can_be_added_again_under_the_same_ref() -> None:
    async def main() -> None:
        async with stage() as on:
            player = on.player()
            with pytest.raises(ValueError, match="cannot add actor 'player'"):
                on.player()
            await player.tell("first")
            await on.supervisor.remove("player", grace_s=5)
            assert () == on.supervisor.children()
            await player.tell("lost")
            assert player is on.player()
            await player.tell("second")
            await handled(player)
            assert ["enter", "first", "leave", "enter", "second"] == on.diary
            assert [("player", "lost", "stopped")] == on.undelivered()

    run_virtual(main())


def test_24_removing_nobody_is_no_error_and_removing_twice_at_once_is_one_end() -> None:
    async def main() -> None:
        async with stage() as on:
            await on.supervisor.remove("nobody", grace_s=5)
            await handled(on.player())
            await asyncio.gather(*[on.supervisor.remove("player", grace_s=5) for _ in range(3)])
            assert ["enter", "leave"] == on.diary

    run_virtual(main())


def test_24_an_actor_added_to_a_supervisor_that_was_stopped_before_it_ran_never_starts() -> None:
    async def main() -> None:
        letters: list[DeadLetter] = []
        supervisor = Supervisor(on_dead_letter=letters.append)
        await supervisor.stop(grace_s=5)
        await supervisor.add("player", lambda: Player([])).tell("late")
        assert [DeadLetter("player", "late", "stopped")] == letters

    run_virtual(main())


def test_24_an_actor_added_after_the_stop_never_starts() -> None:
    async def main() -> None:
        async with stage() as on:
            await on.supervisor.stop(grace_s=5)
            await on.player().tell("late")
            assert ([], [("player", "late", "stopped")]) == (on.diary, on.undelivered())

    run_virtual(main())


def kernel_imports() -> set[str]:
    """List the modules that the kernel's files import."""
    found: set[str] = set()
    for path in Path(runner.kernel.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(str(node.module))
    return found


def test_25_the_kernel_reads_no_wall_clock_and_needs_the_standard_library_alone() -> None:
    imports = kernel_imports()
    assert not imports & {"time", "datetime", "calendar"}
    others = {name for name in imports if name.partition(".")[0] not in sys.stdlib_module_names}
    assert {True} == {name.startswith("runner.kernel") for name in others}
