"""Promises 21 and 22 of the kernel: stopping, in good order and in none. Each test begins with its promise's number."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from runner.kernel import DeadLetter, Restart, Supervisor
from tests.kernel.player import Player, closed_gate, crash, handled, hang, now_s, stage, troupe
from tests.virtual_time import run_virtual


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
