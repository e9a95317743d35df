"""A box of its own process: acknowledges what it gets from a queue in Redis, says it, and ends at the word."""

from __future__ import annotations

import asyncio
import sys

from tests.adapters.queues.redis_queues import acknowledge, fetched, redis_queue

STOP = b"stop"


async def read(url: str, box: str) -> None:
    async with redis_queue(url, box=box) as queue:
        print("ready", flush=True)
        while True:
            delivery = await fetched(queue, 30)
            await acknowledge(queue, delivery)
            if delivery.body == STOP:
                return
            print(delivery.submission, flush=True)


if __name__ == "__main__":
    asyncio.run(read(sys.argv[1], sys.argv[2]))
