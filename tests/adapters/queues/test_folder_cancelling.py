"""A fetch that is cancelled while a message comes: it is given back at once, without waiting for the lease."""

from __future__ import annotations

import asyncio
from pathlib import Path

from runner.job import Note, Verdict
from tests.adapters.queues.folder_queues import folder_queue

TRIES = 150
LONG_S = 20.0


def test_a_message_for_a_caller_that_is_gone_is_given_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with folder_queue(tmp_path / "queue") as queue, folder_queue(tmp_path / "queue", box="box-2") as other:
            for steps in range(TRIES):
                waiting = asyncio.create_task(queue.fetch(LONG_S))
                submission = await other.put(b"x", job_id="a")
                for _ in range(steps % 10):
                    await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
                box, delivery = (other, await other.fetch(LONG_S)) if waiting.cancelled() else (queue, waiting.result())
                assert delivery is not None
                assert submission == delivery.submission
                await box.settle(delivery.token, Verdict.ACK, after_s=0, note=Note(), reason="")

    asyncio.run(main())
