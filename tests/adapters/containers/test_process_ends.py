"""When a job ended, told from a file whose time is coarser than a clock's."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adapters.containers.control import Control
from tests.conformance.container_harness import ProcessHarness
from tests.conformance.container_steps import STUBBORN, end, until_it_says

pytestmark = pytest.mark.integration


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[ProcessHarness]:
    made = ProcessHarness(tmp_path)
    yield made
    asyncio.run(made.clean())


@pytest.mark.parametrize("coarse", [lambda at: at - 0.004, math.floor], ids=["ticks", "whole seconds"])
@pytest.mark.parametrize("lives", [1, 2])
def test_what_a_stop_ended_did_not_end_before_it(
    harness: ProcessHarness, coarse: Callable[[float], float], lives: int
) -> None:
    """Else it has failed by itself: the time of a file is that of the last tick, on some disks of the last second."""

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            containers = await stack.enter_async_context(harness.open())
            await containers.start(harness.spec("job", "sleep", "60"))
            asked_at = time.time()
            await containers.stop("job", 0)
            await end(containers, "job")
            os.utime(exit_file(harness), (coarse(asked_at), coarse(asked_at)))
            if lives == 2:
                containers = await stack.enter_async_context(harness.open())
            ended = await end(containers, "job")
            assert ended.ended_at <= asked_at <= ended.ended_at + ended.coarse_s

    asyncio.run(main())


def exit_file(harness: ProcessHarness) -> Path:
    return harness.state_dir / "process" / "job" / "exit"


def test_a_tree_that_somebody_froze_is_ended(harness: ProcessHarness) -> None:
    """Nothing in it takes a signal before it is thawed."""

    async def main() -> None:
        async with harness.open() as containers:
            await containers.start(harness.spec("job", "sh", "-c", STUBBORN))
            await until_it_says(containers, "job", b"ready")
            record = Control(str(harness.state_dir / "process"), "job").record()
            assert record is not None
            if "freezer" not in record.groups:
                pytest.skip("no group can be frozen here")
            (Path(record.groups["freezer"]) / "freezer.state").write_text("FROZEN")
            await containers.stop("job", 0.05)
            assert (await end(containers, "job")).code == 137

    asyncio.run(main())
