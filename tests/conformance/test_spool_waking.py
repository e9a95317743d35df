"""What every spool keeps: whoever waits for a log is woken, and no wake-up is ever lost."""

from __future__ import annotations

import asyncio

import pytest

from runner.ports import Position, Spool
from tests.conformance.spool_harness import KEY, OTHER, Opener
from tests.virtual_time import run_virtual


def test_a_flag_wakes_everybody_who_waits_for_this_key_alone(open_spool: Opener) -> None:
    """Each sink has a reader of its own; a quiet job's readers sleep on."""

    async def main() -> None:
        async with open_spool() as spool, asyncio.TaskGroup() as group:
            mine = [group.create_task(spool.flag(KEY)) for _ in range(2)]
            others = group.create_task(spool.flag(OTHER))
            await asyncio.sleep(0)
            await spool.append(KEY, 1, "stdout", b"x")
            await asyncio.gather(*mine)
            assert not others.done()
            await spool.seal(OTHER, 1)

    asyncio.run(main())


def test_what_came_between_reading_and_waiting_wakes_too(open_spool: Opener) -> None:
    """A wait with a time limit begins a moment after the read that found nothing."""

    async def main() -> None:
        async with open_spool() as spool:
            assert await spool.read(KEY, Position()) == ()
            await spool.append(KEY, 1, "stdout", b"x")
            await spool.flag(KEY)

    run_virtual(main())


@pytest.mark.parametrize("readers", [1, 3])
def test_no_wake_up_is_lost_between_reading_and_waiting(open_spool: Opener, readers: int) -> None:
    """A reader that found nothing waits; what comes in just then must not be left lying until the next line."""
    count = 500

    async def follow(spool: Spool) -> int:
        position = Position()
        while position.sequence < count:
            found = await spool.read(KEY, position)
            if found:
                position = Position(1, found[-1].sequence + 1)
                continue
            # A wait with a time limit begins in a task of its own, so something may come before it does.
            await asyncio.wait_for(spool.flag(KEY), 20)
        return position.sequence

    async def write(spool: Spool) -> None:
        for number in range(count):
            await spool.append(KEY, 1, "stdout", b"%d" % number)
            for _ in range(number % 5):
                await asyncio.sleep(0)

    async def main() -> None:
        async with open_spool() as spool:
            *ends, _ = await asyncio.gather(*(follow(spool) for _ in range(readers)), write(spool))
            assert ends == [count] * readers

    asyncio.run(main())


def test_news_name_each_log_that_grew_once(open_spool: Opener) -> None:
    """The fan-out waits for all logs at once; a call that is cancelled takes no news with it."""

    async def main() -> None:
        async with open_spool() as spool:
            waiting = asyncio.ensure_future(spool.news())
            await asyncio.sleep(0)
            assert not waiting.done()
            await spool.append(KEY, 1, "stdout", b"x")
            assert await waiting == {KEY}
            cancelled = asyncio.ensure_future(spool.news())
            await asyncio.sleep(0)
            await spool.append(KEY, 1, "stdout", b"x")
            cancelled.cancel()
            await spool.append(OTHER, 1, "stdout", b"x")
            await spool.append(OTHER, 1, "stdout", b"x")
            assert await spool.news() == {KEY, OTHER}
            await spool.seal(OTHER, 1)
            assert await spool.news() == {OTHER}

    asyncio.run(main())
