"""A service manager hears of a runner while all of it answers, and no longer."""

from __future__ import annotations

import asyncio

from runner.job import Key
from runner.vigil import keep_watch
from tests.fakes.faults import hangs
from tests.fakes.scenes import alive, now, put, until
from tests.fakes.world import FakeWorld
from tests.virtual_time import run_virtual


class Watching:
    """Remembers when it heard of the runner."""

    def __init__(self, watchdog_s: float | None) -> None:
        self.watchdog_s = watchdog_s
        self.heard_at: list[float] = []

    def tell(self, **facts: object) -> None:
        assert facts == {"watchdog": 1}
        self.heard_at.append(now())


def test_signs_of_life_come_often_enough_and_end_where_a_stage_is_stuck() -> None:
    """The journal does not answer outputs, which therefore hears of nothing else: nobody else would ever notice."""

    async def main() -> None:
        world, manager = FakeWorld(), Watching(30.0)

        async def no_answer(key: Key) -> None:
            if key in world.journal.entries:
                await hangs()

        async with alive(world) as runner:
            watch = asyncio.ensure_future(keep_watch(runner, manager))
            await asyncio.sleep(100)
            gaps = [later - earlier for earlier, later in zip(manager.heard_at, manager.heard_at[1:], strict=False)]
            assert (len(gaps) > 8, max(gaps) < 15) == (True, True)
            await put(world, "own", id="unreadable", command=[], resources={"cpus": 1000})
            world.troubles["journal.entry"] = no_answer
            await asyncio.sleep(50)
            stuck_at = manager.heard_at[-1]
            assert now() - stuck_at > 30
            world.troubles.clear()
            await until(lambda: manager.heard_at[-1] > stuck_at, limit_s=200)
            watch.cancel()

    run_virtual(main())


def test_a_manager_that_waits_for_nothing_hears_nothing() -> None:
    async def main() -> None:
        manager = Watching(None)
        async with alive(FakeWorld()) as runner:
            await keep_watch(runner, manager)
        assert manager.heard_at == []

    run_virtual(main())
