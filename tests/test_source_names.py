"""Names that any producer may give a queue: what nobody could be told is not served, and the rest goes on."""

from __future__ import annotations

import asyncio
import time

import pytest

from runner.source import ODD_NAMES
from tests.fakes.files import behind, done, pollers, say
from tests.fakes.scenes import alive, until
from tests.fakes.world import FakeWorld
from tests.virtual_time import run_virtual

A_LONG_TIME_S = 3.0


def test_a_queue_whose_name_nobody_could_be_told_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """It would stand in events, receipts and lists, which then could not be written, of other queues, too."""

    async def main() -> None:
        world = FakeWorld()
        behind(world, "a", "\udcff", "", "x" * 256, "ü" * 128, "y" * 255)
        async with alive(world) as runner:
            await until(lambda: pollers(runner) == {"a", "y" * 255}, limit_s=6)
            await done(world, "a", "first", limit_s=12)
            await asyncio.sleep(60)
            assert pollers(runner) == {"a", "y" * 255}

    run_virtual(main())
    assert [ODD_NAMES] == [it.message for it in caplog.records if it.message == ODD_NAMES], "once"


def test_no_name_takes_longer_to_look_at_than_its_length_asks_for() -> None:
    """Whoever may name a queue stopped a box for minutes whose pattern can go back and forth over a name."""

    async def main() -> None:
        world = FakeWorld()
        behind(world, "train", "a" * 28 + "!")
        say(world, "first", match="^(a+)+$|^t")
        async with alive(world) as runner:
            await until(lambda: pollers(runner) == {"train"}, limit_s=6)

    began = time.process_time()
    run_virtual(main())
    assert time.process_time() - began < A_LONG_TIME_S
