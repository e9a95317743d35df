"""A folder queue with twelve thousand messages: fetching stays quick, and what is urgent is not overlooked."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path

from adapters.queues.folder_names import name_message
from runner.job import Note, Verdict
from tests.adapters.queues.folder_queues import folder_queue

MESSAGES = 12_000
TAKEN = 200


def fill(ready: Path) -> None:
    """Put messages as the queue itself does, but without waiting for the disk."""
    for number in range(MESSAGES):
        name = name_message(priority=0, at=1e9 + number, submission=f"{number:024x}", user="", job_id=f"j{number}")
        (ready / name).write_bytes(b"%d" % number)


def test_a_long_queue_costs_no_more_than_a_short_one(tmp_path: Path) -> None:
    """0.2 ms were measured for a fetch; reading the directory each time would cost 10 ms."""

    async def main() -> None:
        async with folder_queue(tmp_path / "queue") as queue, folder_queue(tmp_path / "queue", box="box-2") as other:
            fill(tmp_path / "queue" / "ready")
            times_s = []
            for number in range(TAKEN):
                began = time.perf_counter()
                delivery = await queue.fetch(0)
                times_s.append(time.perf_counter() - began)
                assert delivery is not None
                assert b"%d" % number == delivery.body
                await queue.settle(delivery.token, Verdict.ACK, after_s=0, note=Note(), reason="")
            assert statistics.median(times_s) < 0.003
            assert MESSAGES - TAKEN == await queue.depth()
            await other.put(b"urgent", job_id="urgent", priority=1)
            began = time.monotonic()
            while (delivery := await queue.fetch(0)) is not None and delivery.body != b"urgent":
                assert time.monotonic() - began < 10, "what another box put is overlooked"
            assert delivery is not None

    asyncio.run(main())
