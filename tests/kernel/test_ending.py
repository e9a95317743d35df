"""Promises 21 to 25 of the kernel: stopping, cancelling, removing. Each test begins with its promise's number."""

from __future__ import annotations

import ast
import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import runner.kernel
from runner.kernel import DeadLetter, Restart, Supervisor
from tests.kernel.player import Player, closed_gate, crash, handled, hang, now_s, stage
from tests.virtual_time import run_virtual


class Named(Player):
    """Writes its name into the common diary when its lifespan is left."""

    def __init__(self, name: str, diary: list[object]) -> None:
        super().__init__(diary)
        self.name = name

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        yield
        self.diary.append(f"{self.name} left")


def troupe(diary: list[object], *names: str) -> Supervisor:
    """Make a supervisor of named players."""
    supervisor = Supervisor()
    for name in names:
        supervisor.add(name, lambda name=name: Named(name, diary))  # type: ignore[misc]
    return supervisor


def test_21_actors_stop_one_after_another_the_named_ones_last() -> None:
    async def main() -> None:
        diary: list[object] = []
        supervisor = troupe(diary, "logs", "first", "poller", "second")
        running = asyncio.create_task(supervisor.run())
        await asyncio.sleep(1)
        await supervisor.stop(grace_s=60, order=("poller", "nobody", "logs"))
        await running
        assert ["first left", "second left", "poller left", "logs left"] == diary

    run_virtual(main())


def test_21_a_stopping_actor_handles_what_waits_and_may_still_tell_those_that_stop_later() -> None:
    async def main() -> None:
        diary: list[object] = []
        supervisor = troupe(diary, "upstream", "downstream")
        upstream, downstream = supervisor.ref("upstream"), supervisor.ref("downstream")

        async def forward(_: Player) -> None:
            await asyncio.sleep(1)
            await downstream.tell("forwarded")
            upstream.urgent("an answer comes back while it stops")

        running = asyncio.create_task(supervisor.run())
        for _ in range(3):
            await upstream.tell(forward)
        await asyncio.sleep(0.5)
        await supervisor.stop(grace_s=60)
        await running
        assert 3 == diary.count("forwarded") == diary.count("an answer comes back while it stops")
        assert ["upstream left", "downstream left"] == [word for word in diary if str(word).endswith("left")]

    run_virtual(main())


def test_21_a_stopping_actor_takes_nothing_more_on_its_normal_lane() -> None:
    async def main() -> None:
        async with stage() as on:
            player = on.player()
            gate = await closed_gate(player)
            await player.tell("before")
            stopping = asyncio.create_task(on.supervisor.stop(grace_s=60))
            await asyncio.sleep(1)
            await player.tell("after")
            gate.open()
            await stopping
            assert (["enter", "before", "leave"], [("player", "after", "stopped")]) == (on.diary, on.undelivered())

    run_virtual(main())


def test_21_an_actor_that_is_pausing_is_restarted_to_handle_what_waits() -> None:
    async def main() -> None:
        async with stage() as on:
            player = on.player(restart=Restart(backoff_first_s=3600, backoff_max_s=3600))
            await player.tell(crash)
            await player.tell("waits")
            await asyncio.sleep(1)
            await on.supervisor.stop(grace_s=60)
            assert (["enter", "leave", "enter", "waits", "leave"], 1) == (on.diary, now_s())

    run_virtual(main())


def test_21_an_actor_that_is_pausing_with_nothing_to_do_just_ends() -> None:
    async def main() -> None:
        async with stage() as on:
            await on.player(restart=Restart(backoff_first_s=3600, backoff_max_s=3600)).tell(crash)
            await asyncio.sleep(1)
            await on.supervisor.stop(grace_s=60)
            assert (["enter", "leave"], 1) == (on.diary, now_s())

    run_virtual(main())


def test_21_an_actor_that_crashes_while_it_stops_is_restarted_for_what_still_waits() -> None:
    async def main() -> None:
        async with stage() as on:
            player = on.player(restart=Restart(backoff_first_s=2))
            gate = await closed_gate(player)
            for message in (crash, "waits"):
                await player.tell(message)
            stopping = asyncio.create_task(on.supervisor.stop(grace_s=60))
            await asyncio.sleep(1)
            gate.open()
            await stopping
            assert (["enter", "leave", "enter", "waits", "leave"], 3) == (on.diary, now_s())

    run_virtual(main())


def test_21_an_actor_that_keeps_crashing_while_it_stops_still_pauses_in_between() -> None:
    async def main() -> None:
        async with stage() as on:
            player = on.player(restart=Restart(backoff_first_s=2))
            await player.tell(crash)
            await asyncio.sleep(1)
            for message in (crash, crash, "waits"):
                await player.tell(message)
            await on.supervisor.stop(grace_s=60)
            assert (1 + 4 + 8, "waits") == (now_s(), on.diary[-2])

    run_virtual(main())


def test_21_a_supervisor_stopped_before_it_runs_returns_at_once() -> None:
    async def main() -> None:
        diary: list[object] = []
        supervisor = troupe(diary, "player")
        supervisor.watch("player", lambda down: diary.append(down.reason))
        await supervisor.stop(grace_s=60)
        await supervisor.run()
        assert ["stopped"] == diary

    run_virtual(main())


def test_22_one_grace_counts_for_all_and_what_is_left_then_is_cancelled() -> None:
    async def main() -> None:
        diary: list[object] = []
        supervisor = troupe(diary, "slow", "stuck", "last")
        running = asyncio.create_task(supervisor.run())

        async def slow(_: Player) -> None:
            await asyncio.sleep(6)

        await supervisor.ref("slow").tell(slow)
        await supervisor.ref("stuck").tell(hang)
        await supervisor.ref("last").tell(hang)
        await asyncio.sleep(0)
        await supervisor.stop(grace_s=10)
        await running
        assert (["slow left", "stuck left", "last left"], 10) == (diary, now_s())

    run_virtual(main())


def test_22_a_message_cancelled_midway_and_what_waits_behind_it_are_dead_letters() -> None:
    async def main() -> None:
        async with stage() as on:
            player = on.player()
            await player.tell(hang)
            await player.tell("behind")
            await asyncio.sleep(1)
            await on.supervisor.remove("player", grace_s=5)
            assert [("player", hang, "stopped"), ("player", "behind", "stopped")] == on.undelivered()
            assert (["enter", "leave"], 6) == (on.diary, now_s())

    run_virtual(main())


def test_22_an_actor_cancelled_while_it_sleeps_loses_nothing() -> None:
    async def main() -> None:
        letters: list[DeadLetter] = []
        supervisor = Supervisor(on_dead_letter=letters.append)
        player = supervisor.add("player", lambda: Player([]))
        running = asyncio.create_task(supervisor.run())
        await handled(player)
        await asyncio.sleep(1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert [] == letters

    run_virtual(main())


def test_22_a_task_that_fails_in_the_end_does_not_break_into_the_cleanup() -> None:
    class Careful(Player):
        @asynccontextmanager
        async def lifespan(self) -> AsyncIterator[None]:
            yield
            self.start_soon(self.fail, name="late")
            await asyncio.sleep(1)
            self.cancel_task("late")
            await asyncio.sleep(4)
            self.diary.append("cleaned up")

        async def fail(self) -> None:
            try:
                await hang(self)
            finally:
                raise LookupError

    async def main() -> None:
        async with stage() as on:
            await handled(on.supervisor.add("player", lambda: Careful(on.diary), group="edge"))
            await on.supervisor.remove("player", grace_s=60)
            assert (["cleaned up"], 5) == (on.diary, now_s())

    run_virtual(main())


def test_22_a_pause_is_cancelled_too() -> None:
    async def main() -> None:
        async with stage() as on:
            player = on.player(restart=Restart(attempts=99, backoff_first_s=30, backoff_max_s=30))
            await player.tell(crash)
            await player.tell(hang)
            await asyncio.sleep(1)
            await on.supervisor.stop(grace_s=5)
            assert (6, [("player", crash, "crashed"), ("player", hang, "stopped")]) == (now_s(), on.undelivered())

    run_virtual(main())


def test_22_a_second_stop_hurries_the_first() -> None:
    async def main() -> None:
        async with stage() as on:
            await on.player().tell(hang)
            await asyncio.sleep(1)
            first = asyncio.create_task(on.supervisor.stop(grace_s=3600))
            await asyncio.sleep(1)
            await on.supervisor.stop(grace_s=2)
            await first
            assert (4, ["enter", "leave"]) == (now_s(), on.diary)

    run_virtual(main())


def test_22_a_second_cancellation_does_not_break_into_the_cleanup() -> None:
    class Careful(Player):
        @asynccontextmanager
        async def lifespan(self) -> AsyncIterator[None]:
            yield
            await asyncio.sleep(5)
            self.diary.append("cleaned up")

    async def main() -> None:
        async with stage() as on:
            await on.supervisor.add("player", lambda: Careful(on.diary)).tell(hang)
            await asyncio.sleep(1)
            await asyncio.gather(*[on.supervisor.stop(grace_s=grace_s) for grace_s in (1, 2, 3)])
            assert (["cleaned up"], 7) == (on.diary, now_s())

    run_virtual(main())


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
