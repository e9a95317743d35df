"""A box of its own process: settles what it gets from a folder queue, says it, and ends at the word."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

from runner.job import Note, Verdict
from tests.adapters.queues.folder_queues import folder_queue

STOP = b"stop"


async def read(root: Path, box: str) -> None:
    """Give each message back once, then acknowledge it."""
    async with folder_queue(root, box=box) as queue:
        while True:
            delivery = await queue.fetch(30)
            if delivery is None:
                raise SystemExit("nothing came")
            if delivery.body == STOP:
                await queue.settle(delivery.token, Verdict.ACK, after_s=0, note=delivery.note, reason="")
                return
            verdict = Verdict.RETRY if delivery.note == Note() else Verdict.ACK
            note = msgspec.structs.replace(delivery.note, attempts=delivery.note.attempts + 1)
            await queue.settle(delivery.token, verdict, after_s=0, note=note, reason="")
            print(verdict.value, delivery.submission, flush=True)


if __name__ == "__main__":
    asyncio.run(read(Path(sys.argv[1]), sys.argv[2]))
