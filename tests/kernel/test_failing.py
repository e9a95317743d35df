"""Promises 16 to 20 of the kernel: crashes, restarts, escalation. Each test begins with its promise's number."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from runner.kernel import DeadLetter, Down, Escalated, Restart, Supervisor
from tests.kernel.player import Broken, Player, closed_gate, crash, handled, hang, now_s, stage
from tests.virtual_time import run_virtual


def test_16_a_new_instance_goes_on_with_what_waits_and_the_crashed_message_is_a_dead_letter() -> None:
    async def main() -> None:
        instances: list[Player] = []

        def make() -> Player:
            instances.append(Player(on.diary))
            return instances[-1]

        async with stage() as on:
            player = on.supervisor.add("player", make)
            for message in (1, crash, 2):
                await player.tell(message)
            player.urgent(crash)
            await handled(player)
            assert [1, 2] == [message for message in on.diary if message not in {"enter", "leave"}]
            assert [("player", crash, "crashed")] * 2 == on.undelivered()
            assert 3 == len(instances) == len(set(map(id, instances)))

    run_virtual(main())


def test_16_a_factory_that_fails_is_a_crash_like_any_other() -> None:
    async def main() -> None:
        tries: list[float] = []

        def make() -> Player:
            tries.append(now_s())
            if len(tries) < 3:
                raise Broken
            return Player(on.diary)

        async with stage() as on:
            await handled(on.supervisor.add("player", make))
            assert [0.0, 0.1, 0.3] == pytest.approx(tries)

    run_virtual(main())


@pytest.mark.parametrize(("luck", "share"), [(0.0, 1.0), (1.0, 0.5)])
def test_17_pauses_double_up_to_a_limit_less_their_jitter(luck: float, share: float) -> None:
    async def main() -> None:
        entered: list[float] = []

        def make() -> Player:
            entered.append(now_s())
            raise Broken

        async with stage(random=lambda: luck) as on:
            restart = Restart(attempts=7, backoff_first_s=1, backoff_max_s=20, jitter=0.5)
            on.supervisor.add("player", make, group="edge", restart=restart)
            await asyncio.sleep(600)
        pauses = [after - before for before, after in itertools.pairwise(entered)]
        assert [share * pause for pause in (1, 2, 4, 8, 16, 20, 20)] == pytest.approx(pauses)

    run_virtual(main())


def test_17_crashes_longer_ago_than_the_window_are_forgiven() -> None:
    async def main() -> None:
        async with stage() as on:
            player = on.player(restart=Restart(attempts=1, within_s=600))
            for _ in range(20):
                player.urgent(crash)
                await asyncio.sleep(601)
            assert ("running", 20) == (on.supervisor.children()[0].state, on.supervisor.children()[0].restarts)

    run_virtual(main())


def test_18_a_core_actor_beyond_its_restarts_stops_everything() -> None:
    async def main() -> None:
        diary: list[object] = []
        supervisor = Supervisor(random=lambda: 0.0)
        core = supervisor.add("core", lambda: Player([]), restart=Restart(attempts=2))
        other = supervisor.add("other", lambda: Player(diary), group="edge")
        await other.tell(hang)
        for _ in range(3):
            await core.tell(crash)
        with pytest.raises(Escalated, match="actor 'core' of 'root' crashed beyond its restarts") as caught:
            await supervisor.run()
        assert isinstance(caught.value.__cause__, Broken)
        assert ["enter", "leave"] == diary
        assert pytest.approx(0.3) == now_s()

    run_virtual(main())


def test_18_an_actor_that_may_never_restart_escalates_its_first_crash() -> None:
    async def main() -> None:
        supervisor = Supervisor()
        await supervisor.add("core", lambda: Player([]), restart=Restart.NEVER).tell(crash)
        with pytest.raises(Escalated):
            await supervisor.run()
        assert 0 == now_s()

    run_virtual(main())


def test_18_an_actor_of_another_group_stays_down_and_others_notice_nothing() -> None:
    async def main() -> None:
        async with stage() as on:
            edge = on.player("edge", group="edge", restart=Restart(attempts=1))
            core = on.player("core")
            for _ in range(2):
                await edge.tell(crash)
            await asyncio.sleep(3600)
            await core.tell("still here")
            await handled(core)
            assert [("edge", "stopped"), ("core", "running")] == [(c.name, c.state) for c in on.supervisor.children()]
            assert "still here" == on.diary[-1]

    run_virtual(main())


def test_18_a_core_actor_whose_end_is_a_crash_escalates() -> None:
    async def main() -> None:
        supervisor = Supervisor()
        core = supervisor.add("core", lambda: Player([]))
        running = asyncio.create_task(supervisor.run())
        gate = await closed_gate(core)
        await core.tell(crash)
        stopping = asyncio.create_task(supervisor.stop(grace_s=60))
        await asyncio.sleep(1)
        gate.open()
        await stopping
        with pytest.raises(Escalated):
            await running

    run_virtual(main())


def test_19_watchers_learn_of_every_final_end_and_why() -> None:
    async def main() -> None:
        downs: list[Down] = []
        supervisor = Supervisor(random=lambda: 0.0)
        refs = {}
        for name, group in (("removed", "edge"), ("crashed", "edge"), ("escalated", "core"), ("bystander", "core")):
            supervisor.watch(name, downs.append)
            refs[name] = supervisor.add(name, lambda: Player([]), group=group, restart=Restart(attempts=1))
        running = asyncio.create_task(supervisor.run())
        await supervisor.remove("removed", grace_s=1)
        refs["crashed"].urgent(crash)
        await asyncio.sleep(1)
        assert [("removed", "stopped")] == [(down.name, down.reason) for down in downs]
        refs["crashed"].urgent(crash)
        await asyncio.sleep(1)
        supervisor.watch("crashed", downs.append)
        refs["escalated"].urgent(crash)
        refs["escalated"].urgent(crash)
        with pytest.raises(Escalated):
            await running
        assert [
            ("removed", "stopped", type(None)),
            ("crashed", "crashed", Broken),
            ("crashed", "crashed", Broken),
            ("escalated", "escalated", Broken),
            ("bystander", "stopped", type(None)),
        ] == [(down.name, down.reason, type(down.error)) for down in downs]

    run_virtual(main())


def test_20_what_is_sent_to_a_stopped_actor_is_a_dead_letter() -> None:
    async def main() -> None:
        async with stage() as on:
            player = on.player()
            await on.supervisor.remove("player", grace_s=1)
            await player.tell("told")
            player.urgent("urgent")
            assert not player.offer("offered")
            assert [("player", word, "stopped") for word in ("told", "urgent", "offered")] == on.undelivered()

    run_virtual(main())


def test_20_what_is_left_and_who_waits_to_send_end_in_dead_letters() -> None:
    async def main() -> None:
        async with stage() as on:
            on.supervisor.ref("player", capacity=2)
            player = on.player(group="edge", restart=Restart.NEVER)
            gate = await closed_gate(player)
            await player.tell(crash)
            await player.tell("left")
            waiting = [asyncio.create_task(player.tell(f"waiting {number}")) for number in range(3)]
            await asyncio.sleep(1)
            gate.open()
            await asyncio.wait(waiting)
            letters = sorted((str(letter.message), letter.reason) for letter in on.letters if letter.message != crash)
            expected = [("left", "stopped"), *[(f"waiting {number}", "stopped") for number in range(3)]]
            assert expected == letters

    run_virtual(main())


def test_20_who_waits_to_send_to_an_actor_that_never_came_is_released_at_the_end() -> None:
    async def main() -> None:
        async with stage() as on:
            nobody = on.supervisor.ref("nobody", capacity=1)
            await nobody.tell("first")
            waiting = asyncio.create_task(nobody.tell("second"))
            await asyncio.sleep(1)
        await waiting
        assert [("nobody", word, "stopped") for word in ("first", "second")] == on.undelivered()

    run_virtual(main())


def test_20_dead_letters_are_logged_by_type_where_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    """A message may hold what must not stand in a log, so its content never does."""

    async def main() -> None:
        supervisor = Supervisor()
        player = supervisor.add("player", lambda: Player([]))
        await supervisor.stop(grace_s=1)
        await player.tell("something secret")

    run_virtual(main())
    assert [("player", "str")] == [(vars(record)["to"], vars(record)["message_type"]) for record in caplog.records]
    assert "secret" not in caplog.text


def test_20_a_dead_letter_says_to_whom_what_and_why() -> None:
    async def main() -> None:
        letters: list[DeadLetter] = []
        supervisor = Supervisor(on_dead_letter=letters.append)
        player = supervisor.add("player", lambda: Player([]))
        await supervisor.stop(grace_s=1)
        await player.tell("late")
        assert [DeadLetter("player", "late", "stopped")] == letters

    run_virtual(main())
